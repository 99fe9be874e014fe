-- What a stream is in a copy to or from another store, see store.CopyState. Heads have the state too, for those who lock them.
alter table {s}.streams add column copy_state smallint not null default 0, add column copy_peer text not null default '';
alter table {s}.stream_heads add column copy_state smallint not null default 0;
