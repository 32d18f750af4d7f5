-- The catalogue's log: what eventsourcing 9.5.6 makes for a stock application recorder, less its insert function.
-- (That function takes no table lock, so readers would miss events; without it nobody can switch it on.)
CREATE TYPE "public"."stored_event_uuid" AS (originator_id "uuid", originator_version bigint, topic text, state bytea);
CREATE TABLE IF NOT EXISTS "public"."catalogue_events" (originator_id "uuid" NOT NULL, originator_version bigint NOT NULL, topic text, state bytea, notification_id bigserial, PRIMARY KEY (originator_id, originator_version)) WITH (autovacuum_enabled = true, autovacuum_vacuum_threshold = 100000000, autovacuum_vacuum_scale_factor = 0.5, autovacuum_analyze_threshold = 1000, autovacuum_analyze_scale_factor = 0.01);
CREATE UNIQUE INDEX IF NOT EXISTS "catalogue_events_notification_id_idx" ON "public"."catalogue_events" (notification_id ASC);
