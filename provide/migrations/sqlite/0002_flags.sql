-- What the rules found remarkable: names such as outlier, separated by commas; NULL is nothing.
ALTER TABLE ticks ADD COLUMN flags TEXT;
