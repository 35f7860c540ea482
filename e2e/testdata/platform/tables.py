"""The platform's tables, in both generations that are in use: PLATFORM_GENERATION
says which. Nothing here knows of nanoos.

`python tables.py` is the migration. It also makes the table status_history, in
which the database itself writes every change of a job and who made it.
"""
import os
import uuid
from datetime import datetime, timezone

from sqlalchemy import (JSON, Boolean, Column, DateTime, Enum, Float, ForeignKey, Integer, String, Text, Uuid,
                        create_engine, text)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import declarative_base, sessionmaker

LATER = os.environ["PLATFORM_GENERATION"] == "later"
OWNER = uuid.UUID("0b5c6f0e-7f0a-4a53-8d5c-1f2d3c4b5a69")

engine = create_engine(os.environ["DATABASE_URL"].replace("postgres://", "postgresql+psycopg2://"),
                       pool_pre_ping=True, connect_args={"connect_timeout": 5, "application_name": "platform"})
Session = sessionmaker(engine, expire_on_commit=False)
Base = declarative_base()

Json = JSONB if LATER else JSON
Time = DateTime(timezone=LATER)
STATES = ["PENDING", "QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"]
Status = Enum(*STATES, "TIMEOUT", name="job_status") if LATER else String(50)


def now():
    at = datetime.now(timezone.utc)
    return at if LATER else at.replace(tzinfo=None)


def key():
    return Column(Uuid, primary_key=True, default=uuid.uuid4)


class Structure(Base):
    __tablename__ = "structures"
    id = key()
    name = Column(String(255))
    format = Column(String(50), nullable=False)
    raw_text = Column(Text, nullable=LATER)
    lattice = Column(Json)
    atoms = Column(Json)
    num_atoms = Column(Integer)
    formula = Column(String(255))
    if LATER:
        owner_id = Column(Uuid, nullable=False, default=OWNER)
        lattice_vectors = Column(Json)
    else:
        material_id = Column(Uuid)
        volume = Column(Float)


class Template(Base):
    __tablename__ = "workflow_templates"
    id = key()
    name = Column(String(255), nullable=False)
    engine = Column(String(50), nullable=False)
    default_parameters = Column(Json)
    default_resources = Column(Json)


class Job(Base):
    __tablename__ = "simulation_jobs"
    id = key()
    structure_id = Column(ForeignKey("structures.id"))
    workflow_template_id = Column(ForeignKey("workflow_templates.id"))
    name = Column(String(255))
    description = Column(Text)
    status = Column(Status, nullable=False, default="PENDING")
    priority = Column(Integer, nullable=False, default=5)
    engine = Column(String(50), nullable=False)
    parameters = Column(Json, nullable=False, default=dict)
    resources = Column(Json)
    submitted_at, started_at, finished_at = Column(Time), Column(Time), Column(Time)
    progress = Column(Float, nullable=False, default=0.0)
    current_step = Column(String(255))
    error_message = Column(Text)
    retry_count = Column(Integer, nullable=False, default=0)
    worker_id = Column(String(255))
    worker_hostname = Column(String(255))
    celery_task_id = Column(String(255), unique=True)
    created_at = Column(Time, nullable=False, default=now)
    updated_at = Column(Time, nullable=False, default=now, onupdate=now)
    if LATER:
        owner_id = Column(Uuid, nullable=False, default=OWNER)
        kind = Column(String(50))
        extra_metadata = Column(Json)
    else:
        meta = Column("metadata", Json)


class Result(Base):
    __tablename__ = "simulation_results"
    id = key()
    simulation_job_id = Column(ForeignKey("simulation_jobs.id", ondelete="CASCADE"), nullable=False, unique=True)
    summary = Column(Json, nullable=False)
    artifacts_path = Column(String(500))
    artifacts = Column(Json)
    detailed_results = Column(Json)
    convergence_reached = Column(Boolean, nullable=LATER)
    quality_score = Column(Float)
    created_at = Column(Time, nullable=False)
    if LATER:
        owner_id = Column(Uuid, nullable=False)
        extra_metadata = Column(Json)
    else:
        meta = Column("metadata", Json)


HISTORY = """
CREATE TABLE status_history (seq bigserial PRIMARY KEY, job_id uuid NOT NULL, status text NOT NULL, progress double precision,
    results bigint NOT NULL, by_whom text NOT NULL);
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO status_history (job_id, status, progress, results, by_whom)
        VALUES (NEW.id, NEW.status::text, NEW.progress, (SELECT count(*) FROM simulation_results WHERE simulation_job_id = NEW.id),
            current_setting('application_name'));
    RETURN NEW;
END $$;
CREATE TRIGGER remember AFTER INSERT OR UPDATE ON simulation_jobs FOR EACH ROW EXECUTE FUNCTION remember();
"""

if __name__ == "__main__":
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text(HISTORY))
