-- How the drain is bounded, as JSON.
ALTER TABLE drains ADD COLUMN bounds TEXT NOT NULL DEFAULT '{}';

-- The counters when the rings without the host were published, as JSON; NULL until then.
ALTER TABLE drains ADD COLUMN counters_at_start TEXT;
UPDATE drains SET counters_at_start = json_object(
    'flows', flows_at_start,
    'evicted_total', evicted_at_start,
    'new_flows_total', new_flows_at_start,
    'misrouted_total', misrouted_at_start
) WHERE flows_at_start IS NOT NULL;
ALTER TABLE drains DROP COLUMN flows_at_start;
ALTER TABLE drains DROP COLUMN evicted_at_start;
ALTER TABLE drains DROP COLUMN new_flows_at_start;
ALTER TABLE drains DROP COLUMN misrouted_at_start;
