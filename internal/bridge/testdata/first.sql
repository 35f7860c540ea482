-- The first generation: texts for states, JSON, times without a zone.
CREATE TABLE structures (
	id uuid PRIMARY KEY, material_id uuid, name varchar(255), format varchar(50) NOT NULL, raw_text text NOT NULL,
	lattice json, atoms json, num_atoms integer, formula varchar(255),
	a double precision, b double precision, c double precision, alpha double precision, beta double precision, gamma double precision,
	volume double precision
);
CREATE TABLE workflow_templates (
	id uuid PRIMARY KEY, name varchar(255) NOT NULL, engine varchar(50) NOT NULL, default_parameters json, default_resources json
);
CREATE TABLE simulation_jobs (
	id uuid PRIMARY KEY, structure_id uuid REFERENCES structures, workflow_template_id uuid REFERENCES workflow_templates,
	name varchar(255), description text, status varchar(50) NOT NULL, priority integer NOT NULL DEFAULT 5, engine varchar(50) NOT NULL,
	parameters json NOT NULL, resources json, submitted_at timestamp, started_at timestamp, finished_at timestamp,
	progress double precision NOT NULL DEFAULT 0, current_step varchar(255), error_message text, retry_count integer NOT NULL DEFAULT 0,
	worker_id varchar(255), worker_hostname varchar(255), celery_task_id varchar(255) UNIQUE, metadata json,
	created_at timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'), updated_at timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);
CREATE TABLE simulation_results (
	id uuid PRIMARY KEY, simulation_job_id uuid NOT NULL UNIQUE REFERENCES simulation_jobs ON DELETE CASCADE, summary json NOT NULL,
	artifacts_path varchar(500), artifacts json, detailed_results json, convergence_reached boolean NOT NULL, quality_score double precision,
	metadata json, created_at timestamp NOT NULL
);
