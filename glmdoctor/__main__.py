from glmdoctor.cli import main

main()
