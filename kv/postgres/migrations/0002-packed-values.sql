-- From here on values may stand in their rows packed (kv/postgres/pack.go). Those that are there stay as they are. An older program would take packed
-- ones for damaged: that this file has run keeps it out.
comment on column entry.value is 'as it is, or packed: fe 93 74 62 6c d7 70 01, then a frame of zstd without its magic number, with the dictionary that it names';
