/* One job, two hosts, three attempts: who may speak for the job. README.md says
 * what is modelled, what must hold, and what was found.
 *
 * GUARD is what a report of an end must match: 0 nothing, 1 the worker, 2 the
 * fence, 3 both. RELAUNCH starts an attempt without looking under its lock;
 * KEEPFENCE lets an adoption keep the fence; EARLY shows the files of an attempt
 * before its report is taken.
 */
#ifndef GUARD
#define GUARD 2
#endif
#if GUARD == 0
#define FITS (true)
#elif GUARD == 1
#define FITS (owner == me)
#elif GUARD == 2
#define FITS (fence == f)
#else
#define FITS (fence == f && owner == me)
#endif

#define ATTEMPTS 3
#define CRASHES 1	/* of each worker */
#ifndef ALARMS
#define ALARMS 2	/* leases that end although their worker lives */
#endif
#define RESTORE 8	/* what a restore adds to the fence; above all before it */
#define ENDED (st == COMPLETED || st == CANCELLED || st == FAILED)
#define HELD (holds[1] == attempt || holds[2] == attempt)
/* An attempt that was given up may go on until another claim (R10). */
#define CURRENT(n) (attempt == n && (st == RUNNING || st == QUEUED))

mtype = { QUEUED, RUNNING, COMPLETED, CANCELLED, FAILED };

/* The database. */
mtype st = QUEUED;
byte attempt, fence, owner;
bit cancel;			/* a cancel was acknowledged */
bit restored;			/* the incarnation was raised */
byte commits;			/* transitions into a terminal state */
byte winner;			/* the attempt whose report was taken */
byte shown;			/* the attempt whose files readers see */
bit stale;			/* a report of an attempt that was not current was taken */

/* The disks: one directory for each attempt, with its supervisor. */
byte host[ATTEMPTS+1];
bit made[ATTEMPTS+1], alive[ATTEMPTS+1], exited[ATTEMPTS+1];
byte starts[ATTEMPTS+1];

/* What each worker holds in memory. */
byte holds[3];
byte life[3];			/* processes of each worker so far */
bit dead;			/* a report of a process that had been replaced was taken */

proctype Worker(byte me) {
	byte a = 0, f = 0, crashes = 0, i;
	do
	:: ENDED -> break

	/* Claim: one transaction raises attempt and fence. */
	:: atomic { a == 0 && st == QUEUED && !cancel && attempt < ATTEMPTS ->
		attempt++; fence++; owner = me; st = RUNNING;
		a = attempt; f = fence; holds[me] = a }

	/* Start: directory, then program, at most once under the lock. */
	:: atomic { a != 0 && !made[a] -> made[a] = 1; host[a] = me }
	:: atomic { a != 0 && made[a] && host[a] == me && starts[a] == 0 ->
		starts[a]++; alive[a] = 1 }
#ifdef RELAUNCH
	:: atomic { a != 0 && made[a] && host[a] == me && !exited[a] && crashes > 0 && starts[a] < 2 ->
		starts[a]++; alive[a] = 1 }
#endif

	/* Heartbeat: return of a lost attempt, an order to stop, or to drop. */
	:: atomic { a != 0 && st == QUEUED && fence == f && owner == me -> st = RUNNING }
	:: atomic { a != 0 && cancel && st == RUNNING && fence == f && alive[a] -> alive[a] = 0; exited[a] = 1 }
	:: atomic { a != 0 && attempt != a -> alive[a] = 0; a = 0; f = 0; holds[me] = 0 }
#ifdef EARLY
	:: atomic { a != 0 && exited[a] -> shown = a }
#endif

	/* Finish: one guarded transaction; files and outcome are seen together. */
	:: atomic { a != 0 && exited[a] ->
		if
		:: FITS && !ENDED ->
			stale = stale || !CURRENT(a);
			commits++; winner = a; shown = a;
			if
			:: cancel -> st = CANCELLED
			:: else -> st = COMPLETED
			fi;
			a = 0; f = 0; holds[me] = 0
		:: else ->
			/* Refused. If it is still this worker's own, an attach says so
			 * and gives the newer fence. */
			if
			:: attempt == a && !ENDED && (st == RUNNING || st == QUEUED) && host[a] == me ->
				st = RUNNING; owner = me; fence++; f = fence
			:: else -> a = 0; f = 0; holds[me] = 0
			fi
		fi }

	/* Crash, and return: what is on the disk and current is adopted under a new
	 * fence and the same attempt. What is not is stopped. The report of the
	 * process before may still be under way: see Ghost. */
	:: atomic { crashes < CRASHES ->
		crashes++; life[me]++; a = 0; f = 0; holds[me] = 0; i = 1;
		do
		:: i <= ATTEMPTS ->
			if
			:: made[i] && host[i] == me && CURRENT(i) -> a = i
			:: made[i] && host[i] == me && !CURRENT(i) -> alive[i] = 0
			:: else -> skip
			fi;
			i++
		:: i > ATTEMPTS -> break
		od;
		if
		:: a == 0 && st == RUNNING && owner == me -> a = attempt	/* claimed, and nothing begun */
		:: else -> skip
		fi;
		if
		:: a != 0 ->
			st = RUNNING; owner = me; holds[me] = a;
#ifndef KEEPFENCE
			fence++;
#endif
			f = fence
		:: else -> skip
		fi }
	od
}

/* A report that was sent before its worker crashed, was fenced or adopted again,
 * and arrives at any time after. */
proctype Ghost() {
	byte a, f, me, l;
	do
	:: ENDED -> break
	:: atomic { f == 0 && st == RUNNING && exited[attempt] ->
		a = attempt; f = fence; me = owner; l = life[me] }
	:: atomic { f != 0 ->
		if
		:: FITS && !ENDED ->
			stale = stale || !CURRENT(a);
			dead = dead || life[me] != l;
			commits++; winner = a; shown = a;
			if
			:: cancel -> st = CANCELLED
			:: else -> st = COMPLETED
			fi
		:: else -> skip
		fi;
		break }
	od
}

/* Programs end at any time. */
proctype Kernel() {
	do
	:: ENDED -> break
	:: atomic { alive[1] -> alive[1] = 0; exited[1] = 1 }
	:: atomic { alive[2] -> alive[2] = 0; exited[2] = 1 }
	:: atomic { alive[3] -> alive[3] = 0; exited[3] = 1 }
	od
}

/* The leader gives up attempts, rightly or not: no clock is assumed. The owner
 * stays in the row, so that a late return or report may still win. */
proctype Leader() {
	byte alarms = 0;
	do
	:: ENDED -> break
	:: atomic { st == RUNNING && !cancel && attempt < ATTEMPTS && alarms < ALARMS -> alarms++; st = QUEUED }
	:: atomic { st == RUNNING && !HELD && !cancel && attempt < ATTEMPTS -> st = QUEUED }
	:: atomic { st == RUNNING && !HELD && !cancel && attempt == ATTEMPTS -> commits++; st = FAILED }
	:: atomic { st == RUNNING && !HELD && cancel -> commits++; st = CANCELLED }
	od
}

/* A person may cancel once; the answer comes with the commit. */
proctype Person() {
	if
	:: atomic { st == QUEUED -> cancel = 1; commits++; st = CANCELLED }
	:: atomic { st == RUNNING -> cancel = 1 }
	:: ENDED
	fi
}

/* A restore raises the incarnation: no fence from before fits, and workers
 * attach again, which here is their refused report or their crash. */
proctype Operator() {
	if
	:: atomic { !restored && st == RUNNING -> restored = 1; fence = fence + RESTORE }
	:: true
	fi
}

init {
	atomic {
		run Worker(1); run Worker(2); run Kernel(); run Leader(); run Person();
#ifndef FEW
		run Ghost(); run Operator()
#endif
	}
}

#define ONCE (commits <= 1)
#define AGREE (!stale && (shown == 0 || shown == winner) && (winner == 0 || winner == attempt))
#define LIVING (!dead)
#define ONESTART (starts[1] <= 1 && starts[2] <= 1 && starts[3] <= 1)
#define KEPT (!(cancel && ENDED) || st == CANCELLED)

ltl safe { [] (ONCE && AGREE && LIVING && ONESTART && KEPT) }
ltl once { [] ONCE }
ltl agree { [] AGREE }
ltl living { [] LIVING }
ltl onestart { [] ONESTART }
ltl kept { [] KEPT }
ltl ends { <> ENDED }
