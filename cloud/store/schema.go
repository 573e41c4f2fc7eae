package store

import (
	"context"
	"database/sql"
	"fmt"
)

// schemaVersion is kept in SQLite's user_version.
const schemaVersion = 5

// schema of version 5. Epochs are numbered in the order they were opened, so
// (epoch number, sequence) is the order of a log. Instants are nanoseconds UTC.
const schema = `
CREATE TABLE epoch (
	n INTEGER PRIMARY KEY AUTOINCREMENT,
	log TEXT NOT NULL,
	epoch BLOB NOT NULL UNIQUE,
	last INTEGER NOT NULL -- sequence of its last record
);
CREATE INDEX epoch_log ON epoch (log, n);

-- One row per hub partition: the end every Take names, and the place in the stream.
CREATE TABLE hub_end (
	partition INTEGER PRIMARY KEY,
	epoch INTEGER NOT NULL,
	stream TEXT NOT NULL,
	stream_seq INTEGER NOT NULL
);
CREATE TABLE hub_log (
	id INTEGER PRIMARY KEY,
	partition INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	seq INTEGER NOT NULL,
	of_log INTEGER NOT NULL, -- 0: the hub's own
	of_epoch BLOB,
	of_seq INTEGER NOT NULL,
	ord INTEGER NOT NULL,
	through INTEGER NOT NULL,
	kind INTEGER NOT NULL,
	source TEXT NOT NULL,
	t_from INTEGER NOT NULL,
	t_to INTEGER NOT NULL,
	reach INTEGER NOT NULL, -- class of t_to - t_from, see History
	sealed BLOB NOT NULL,
	verdict BLOB
);
CREATE UNIQUE INDEX hub_log_at ON hub_log (partition, epoch, seq);
CREATE UNIQUE INDEX hub_log_of ON hub_log (of_log, of_epoch, of_seq) WHERE of_log > 0;
CREATE INDEX hub_log_times ON hub_log (source, reach, t_from, t_to) WHERE kind = 2 AND t_to > t_from;
` + schemaFacts + schemaPast + `
CREATE TABLE account (
	n INTEGER PRIMARY KEY,
	log TEXT NOT NULL UNIQUE,
	partition INTEGER NOT NULL,
	body BLOB NOT NULL
);
CREATE TABLE descriptor (hash BLOB PRIMARY KEY, kind INTEGER NOT NULL, content BLOB NOT NULL);

-- One row per product and partition: the end every Commit names, its place in
-- the hub's log, and what has been pruned.
CREATE TABLE out_end (
	product TEXT NOT NULL,
	partition INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	place_log TEXT NOT NULL,
	place_epoch BLOB,
	place_seq INTEGER NOT NULL,
	progress INTEGER NOT NULL,
	watermark INTEGER NOT NULL,
	kept INTEGER NOT NULL,        -- records in out_log
	pruned_epoch INTEGER NOT NULL, -- the last record pruned
	pruned_seq INTEGER NOT NULL,
	PRIMARY KEY (product, partition)
);
CREATE TABLE out_log (
	id INTEGER PRIMARY KEY,
	product TEXT NOT NULL,
	partition INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	seq INTEGER NOT NULL,
	entity TEXT NOT NULL,
	key TEXT NOT NULL,
	t_from INTEGER NOT NULL,
	t_to INTEGER NOT NULL,
	state INTEGER NOT NULL,
	revision INTEGER NOT NULL,
	produced INTEGER NOT NULL,
	body BLOB NOT NULL
);
CREATE UNIQUE INDEX out_log_at ON out_log (product, partition, epoch, seq);

-- The current revision of every row; withdrawn ones stay, with state 3.
CREATE TABLE row (
	product TEXT NOT NULL,
	entity TEXT NOT NULL,
	key TEXT NOT NULL,
	t_from INTEGER NOT NULL,
	t_to INTEGER NOT NULL,
	state INTEGER NOT NULL,
	revision INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	seq INTEGER NOT NULL,
	produced INTEGER NOT NULL,
	body BLOB NOT NULL
);
CREATE UNIQUE INDEX row_key ON row (product, entity, key);
CREATE INDEX row_time ON row (product, entity, t_from, key);
` + schemaOpen + `

CREATE TABLE fold_state (product TEXT NOT NULL, key TEXT NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX fold_state_at ON fold_state (product, key, at);

CREATE TABLE port_place (
	port TEXT NOT NULL,
	product TEXT NOT NULL,
	log TEXT NOT NULL,
	epoch BLOB NOT NULL,
	seq INTEGER NOT NULL,
	PRIMARY KEY (port, product)
);
`

// schemaOpen finds what may still become final: a product that begins again must
// have it all, and must not look through all rows there ever were.
const schemaOpen = `CREATE INDEX row_open ON row (product, entity, t_from, key) WHERE state = 1;`

const schemaFacts = `CREATE INDEX hub_log_facts ON hub_log (partition, epoch, seq) WHERE kind = 5 AND of_log = 0;`

// schemaPast is what stays of batches whose samples stand in chunks.
const schemaPast = `
-- One row per partition: through where its batches are chunks, and the pass
-- that came so far. Chunks of a later pass don't count: see compact.go.
CREATE TABLE compacted (
	partition INTEGER PRIMARY KEY,
	pass INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	seq INTEGER NOT NULL
);
-- Headers of batches without their bodies, in log order, many in a row: see past.go.
CREATE TABLE hub_past (
	partition INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	last INTEGER NOT NULL, -- sequence of the last of them
	body BLOB NOT NULL,
	PRIMARY KEY (partition, epoch, last)
) WITHOUT ROWID;
-- Their checksums, by where they stood in the log they came from.
CREATE TABLE hub_sum (
	of_log INTEGER NOT NULL,
	of_epoch BLOB NOT NULL,
	block INTEGER NOT NULL, -- of_seq / sumBlock
	body BLOB NOT NULL,
	PRIMARY KEY (of_log, of_epoch, block)
) WITHOUT ROWID;
-- The files that hold chunks, one a day of event time.
CREATE TABLE day (
	day INTEGER PRIMARY KEY, -- days since 1970; strayDay: see day.go
	chunks INTEGER NOT NULL,
	samples INTEGER NOT NULL,
	pass INTEGER NOT NULL DEFAULT 0 -- that wrote the last of them; 0: of layout 3, not known
);
-- The newest sample of every signal among those that stand in chunks.
CREATE TABLE newest (
	source TEXT NOT NULL,
	signals BLOB NOT NULL, -- hash of the signal table
	sealed BLOB NOT NULL,  -- a batch, one sample a signal
	marks BLOB,            -- a verdict on it
	PRIMARY KEY (source, signals)
) WITHOUT ROWID;
-- One row once a day was dropped: samples before it may be gone.
CREATE TABLE kept (n INTEGER PRIMARY KEY CHECK (n = 0), since INTEGER NOT NULL);
` + schemaUnfinished

// schemaUnfinished tells chunks and files that may be removed from those that may be
// all that is left of something: see sweep.go.
const schemaUnfinished = `
-- Passes that may have written chunks and are not recorded.
CREATE TABLE begun (pass INTEGER PRIMARY KEY);
-- Days that were dropped, whose files may still be there.
CREATE TABLE going (day INTEGER PRIMARY KEY, chunks INTEGER NOT NULL, pass INTEGER NOT NULL);
`

const toVersion4 = `ALTER TABLE day ADD COLUMN pass INTEGER NOT NULL DEFAULT 0;` + schemaUnfinished

// toVersion2 has the products read the hub's log again: what they kept of
// sources and sites has another form. Rows stand, and are compared.
const toVersion2 = schemaFacts + `
DELETE FROM fold_state;
UPDATE out_end SET place_log = '', place_epoch = NULL, place_seq = 0;
`

func migrate(ctx context.Context, tx *sql.Tx) error {
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	switch version {
	case schemaVersion:
		return nil
	case 1, 2, 3, 4:
		steps := [...]string{1: toVersion2 + schemaPast, 2: schemaPast, 3: toVersion4, 4: ""}[version] + schemaOpen
		if _, err := tx.ExecContext(ctx, steps+fmt.Sprintf("PRAGMA user_version = %d;", schemaVersion)); err != nil {
			return fmt.Errorf("bring the hub's database to layout %d: %w", schemaVersion, err)
		}
		return nil
	case 0:
		if _, err := tx.ExecContext(ctx, schema+fmt.Sprintf("PRAGMA user_version = %d;", schemaVersion)); err != nil {
			return fmt.Errorf("lay out the hub's database: %w", err)
		}
		return nil
	}
	return fmt.Errorf("the hub's database has layout %d, this program knows %d: use the program that wrote it", version, schemaVersion)
}
