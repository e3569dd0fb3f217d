"""One module per subject: each probe takes the IO (and the facts it builds on) and gives a fact or Unknown."""
