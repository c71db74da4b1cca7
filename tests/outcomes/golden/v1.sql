PRAGMA application_id = 1634169460;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE embedders (
            seq INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            revision TEXT NOT NULL,
            dimension INTEGER NOT NULL,
            UNIQUE (name, revision, dimension)
        );
INSERT INTO "embedders" VALUES(1,'minilm','1',3);
CREATE TABLE feedback (
            seq INTEGER PRIMARY KEY,
            idempotency_key TEXT NOT NULL UNIQUE,
            decision_id TEXT NOT NULL,
            score REAL NOT NULL,
            source TEXT NOT NULL,
            at_micro INTEGER NOT NULL
        );
INSERT INTO "feedback" VALUES(1,'user:d1','d1',1.0,'user',1795367651702575);
INSERT INTO "feedback" VALUES(2,'judge:d1','d1',0.5,'judge',1795367651702619);
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('created','2026-11-22T17:14:11.694517+00:00');
INSERT INTO "meta" VALUES('salt',X'000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F');
CREATE TABLE outcomes (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            query INTEGER NOT NULL REFERENCES queries (seq),
            model TEXT NOT NULL,
            decision_id TEXT,
            attempt INTEGER NOT NULL,
            quality REAL,
            cost_nano INTEGER,
            latency REAL,
            input_tokens INTEGER,
            output_tokens INTEGER,
            cache_read_tokens INTEGER,
            cache_write_tokens INTEGER,
            error TEXT,
            propensity REAL,
            scorer TEXT,
            at_micro INTEGER,
            metadata TEXT
        );
INSERT INTO "outcomes" VALUES(1,'o1',1,'large','d1',1,0.0,12500000,1.5,11,7,5,2,NULL,0.5,'verifier',1767323045000006,'{"note": "x"}');
INSERT INTO "outcomes" VALUES(2,'o2',2,'small',NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'TimeoutError',NULL,NULL,NULL,NULL);
CREATE TABLE queries (
            seq INTEGER PRIMARY KEY,
            query_id TEXT NOT NULL UNIQUE,
            hash TEXT NOT NULL,
            chars INTEGER NOT NULL,
            role TEXT,
            task TEXT,
            tags TEXT,
            embedder INTEGER REFERENCES embedders (seq),
            embedding BLOB,
            text TEXT
        );
INSERT INTO "queries" VALUES(1,'q1','6049704f2bb36051a1bdf4a3ea6e9c4d',13,'solver','maths','{"lang": "en"}',1,X'0000803F0000000000000000','Name a prime.');
INSERT INTO "queries" VALUES(2,'8e28d670d3b9931192665ebc8dec116c','8e28d670d3b9931192665ebc8dec116c',4,NULL,NULL,NULL,NULL,NULL,'Who?');
CREATE INDEX queries_embedder ON queries (embedder);
CREATE INDEX outcomes_decision ON outcomes (decision_id) WHERE decision_id IS NOT NULL;
CREATE INDEX feedback_decision ON feedback (decision_id);
COMMIT;
