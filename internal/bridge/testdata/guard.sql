-- What a reader of the platform relies on: legal moves only, and a result before
-- the job of it is complete.
CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF OLD.status <> NEW.status AND NOT coalesce(current_setting('platform.by_hand', true), '') = 'on'
		AND NOT ((OLD.status::text, NEW.status::text) IN (('PENDING', 'QUEUED'), ('PENDING', 'CANCELLED'), ('PENDING', 'FAILED'), ('QUEUED', 'RUNNING'),
		('QUEUED', 'CANCELLED'), ('QUEUED', 'FAILED'), ('RUNNING', 'COMPLETED'), ('RUNNING', 'FAILED'), ('RUNNING', 'CANCELLED'), ('RUNNING', 'TIMEOUT'))) THEN
		RAISE EXCEPTION 'illegal move of % from % to %', NEW.id, OLD.status, NEW.status;
	END IF;
	IF OLD.status::text IN ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT') AND NEW IS DISTINCT FROM OLD
		AND NOT coalesce(current_setting('platform.by_hand', true), '') = 'on' THEN
		RAISE EXCEPTION '% has ended', NEW.id;
	END IF;
	IF OLD.status::text = 'RUNNING' AND NEW.status::text = 'COMPLETED' AND NEW.worker_id IS NOT NULL
		AND NOT EXISTS (SELECT FROM simulation_results r WHERE r.simulation_job_id = NEW.id) THEN
		RAISE EXCEPTION '% is complete without a result', NEW.id;
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON simulation_jobs FOR EACH ROW EXECUTE FUNCTION guard();
