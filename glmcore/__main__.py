from glmcore.cli import main

main()
