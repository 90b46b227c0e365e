-- From here on keys without values that begin alike may share rows (kv/postgres/group.go). Those that are there stay as they are, until tombolo store reindex
-- brings them together. An older program would not find keys in such rows: that this file has run keeps it out.

-- The value of such a row without some of its keys. gone is written as the value is: 00, and each key's rest and 00.
create function without(value bytea, gone bytea) returns bytea language plpgsql immutable strict as $$
declare
    kept bytea := '\x00';
    leaf bytea;
    till int;
    at int;
begin
    if octet_length(gone) > octet_length(value) then -- of the two the shorter is gone through
        loop
            till := position('\x00'::bytea in substr(value, 2));
            exit when till = 0;
            leaf := substr(value, 1, till + 1);
            value := substr(value, till + 1);
            if position(leaf in gone) = 0 then
                kept := kept || substr(leaf, 2);
            end if;
        end loop;
        return kept;
    end if;
    loop
        till := position('\x00'::bytea in substr(gone, 2));
        exit when till = 0;
        leaf := substr(gone, 1, till + 1);
        gone := substr(gone, till + 1);
        loop
            at := position(leaf in value);
            exit when at = 0;
            value := substr(value, 1, at) || substr(value, at + octet_length(leaf));
        end loop;
    end loop;
    return value;
end $$;
