-- What an imported scan had where it ran. NULL for all that ran here.
ALTER TABLE scans ADD COLUMN original_options {json};
ALTER TABLE scans ADD COLUMN original_counts {json};
