-- The two roles of the store of normalised ticks: one writes, the other can only read.
CREATE ROLE lizards_writer LOGIN;
CREATE ROLE lizards_reader LOGIN;
