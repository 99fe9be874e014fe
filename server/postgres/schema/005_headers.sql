-- Headers of messages, as package headers packs them. Those of chunks are in their data.
alter table {s}.latest add column headers bytea not null default '';
