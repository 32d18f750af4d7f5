-- Periods close, and invoices are issued of them: who issues, which numbers are given out, what was printed.

-- An issuer's details now (year 0), and how far it has counted in a year: the newest version of each of its streams. They live in
-- the log of the shard of the issuer's id. Whoever draws a number locks the row of the year, after the heads of accounts.
CREATE TABLE issuer_head (
    shard        integer          NOT NULL,
    issuer_id    text COLLATE "C" NOT NULL,
    year         integer          NOT NULL,
    stream_id    uuid             NOT NULL,
    version      bigint           NOT NULL,
    chain_hash   bytea            NOT NULL,
    state        bytea            NOT NULL,
    state_schema integer          NOT NULL,
    recorded_at  timestamptz      NOT NULL,
    PRIMARY KEY (shard, issuer_id, year)
);
CREATE UNIQUE INDEX issuer_head_stream ON issuer_head (shard, stream_id);

-- Every document that has a number, from the transaction that gave it one, with the PDF once it is made: stored as issued, for ever.
CREATE TABLE invoice_document (
    shard      integer          NOT NULL,
    team_id    text COLLATE "C" NOT NULL,
    invoice    text COLLATE "C" NOT NULL,   -- its number as it is printed
    version    bigint           NOT NULL,   -- of the event, in the account's stream, that issued it
    digest     bytea            NOT NULL,   -- SHA-256 of its canonical JSON
    pdf        bytea,
    pdf_digest bytea,                       -- SHA-256 of the PDF
    stored_at  timestamptz,
    PRIMARY KEY (shard, team_id, invoice),
    CHECK ((pdf IS NULL) = (pdf_digest IS NULL) AND (pdf IS NULL) = (stored_at IS NULL))
);
CREATE INDEX invoice_document_missing ON invoice_document (shard, team_id, invoice) WHERE pdf IS NULL;
-- A PDF is compressed already.
ALTER TABLE invoice_document ALTER COLUMN pdf SET STORAGE EXTERNAL;

CREATE FUNCTION invoice_document_stays() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF TG_OP = 'UPDATE' AND OLD.pdf IS NULL AND (NEW.shard, NEW.team_id, NEW.invoice, NEW.version, NEW.digest)
        = (OLD.shard, OLD.team_id, OLD.invoice, OLD.version, OLD.digest) THEN
        RETURN NEW;
    END IF;
    -- What a shard leaves behind when it moves may go.
    IF TG_OP = 'DELETE' AND NOT EXISTS (SELECT FROM shard_log WHERE shard = OLD.shard AND lives_here) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'invoice_document: what was issued stays as it is' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER invoice_document_stays BEFORE UPDATE OR DELETE ON invoice_document
    FOR EACH ROW EXECUTE FUNCTION invoice_document_stays();

-- The invoice read model: one row for each event of a period's close, of a document, or of its money.
CREATE TABLE invoice_entry (
    shard             integer          NOT NULL,
    team_id           text COLLATE "C" NOT NULL,
    version           bigint           NOT NULL,
    kind              text             NOT NULL,   -- the event's name
    recorded_at       timestamptz      NOT NULL,
    document          text COLLATE "C",            -- the number of the document that the event issued, if it did
    invoice           text COLLATE "C",            -- the invoice that the event is about
    issuer_id         text,
    year              integer,
    number            bigint,
    period_start      timestamptz,
    period_end        timestamptz,
    label             text,
    closed_version    bigint,
    opening_micros    bigint,
    closing_micros    bigint,
    money             text             NOT NULL,   -- JSON: per currency net_minor, tax_minor, gross_minor, paid_minor of the document
    digest            text,                        -- SHA-256 of the document's canonical JSON
    payment_reference text,
    currency          text,
    amount_minor      bigint,
    over_minor        bigint,
    actor_id          text             NOT NULL,
    actor_role        text             NOT NULL,
    reason            text,
    PRIMARY KEY (shard, team_id, version)
);
CREATE INDEX invoice_entry_invoice ON invoice_entry (shard, team_id, invoice, version) WHERE invoice IS NOT NULL;
CREATE INDEX invoice_entry_document ON invoice_entry (shard, team_id, version) WHERE document IS NOT NULL;

-- Closed periods that wait for their invoice are found without reading anything else.
CREATE INDEX account_index_uninvoiced ON account_index (shard, team_id, key) WHERE kind = 'uninvoiced';

-- Heads of the schema before this one are folded again; until then the views leave them empty.
DROP INDEX account_head_older;
CREATE INDEX account_head_older ON account_head (shard, team_id) WHERE state_schema < 4;
CREATE OR REPLACE VIEW account_document AS
SELECT shard, team_id, version, recorded_at, next_due_at,
       CASE WHEN state_schema = 4 THEN convert_from(state, 'UTF8')::jsonb ELSE '{}'::jsonb END AS document
FROM account_head;
