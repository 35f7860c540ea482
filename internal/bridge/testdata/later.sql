-- The later generation: an owner of every row, kinds, binary JSON, an
-- enumeration of states, times with a zone, and columns that are none of ours.
CREATE TYPE job_status AS ENUM ('PENDING', 'QUEUED', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT');
CREATE TABLE structures (
	id uuid PRIMARY KEY, owner_id uuid NOT NULL, name varchar(255), format varchar(50) NOT NULL, raw_text text,
	lattice jsonb, lattice_vectors jsonb, atoms jsonb, num_atoms integer, formula varchar(255),
	a double precision, b double precision, c double precision, alpha double precision, beta double precision, gamma double precision
);
CREATE TABLE workflow_templates (
	id uuid PRIMARY KEY, name varchar(255) NOT NULL, engine varchar(50) NOT NULL, default_parameters jsonb, default_resources jsonb
);
CREATE TABLE simulation_jobs (
	id uuid PRIMARY KEY, owner_id uuid NOT NULL, structure_id uuid REFERENCES structures, workflow_template_id uuid REFERENCES workflow_templates,
	name varchar(255), kind varchar(50), status job_status NOT NULL, priority integer NOT NULL DEFAULT 5, engine varchar(50),
	parameters jsonb, resources jsonb, submitted_at timestamptz, started_at timestamptz, finished_at timestamptz,
	progress double precision, current_step varchar(40), error_message text, retry_count integer, worker_id varchar(255),
	celery_task_id varchar(255) UNIQUE, extra_metadata jsonb, billing_code varchar(20) NOT NULL DEFAULT 'none',
	created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz
);
CREATE TABLE simulation_results (
	id uuid PRIMARY KEY, owner_id uuid NOT NULL, simulation_job_id uuid NOT NULL UNIQUE REFERENCES simulation_jobs ON DELETE CASCADE,
	summary jsonb NOT NULL, artifacts_path varchar(500), artifacts jsonb, detailed_results jsonb, convergence_reached boolean,
	quality_score double precision, extra_metadata jsonb, created_at timestamptz NOT NULL
);
