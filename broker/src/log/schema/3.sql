-- A group that has few entries was searched for in all of them: 2 s for a million.
CREATE INDEX entries_group ON entries ("group") WHERE "group" IS NOT NULL;
