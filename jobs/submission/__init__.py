"""What a submission is checked against and made of: images, inputs, cost, drafts, what a job can start from."""
