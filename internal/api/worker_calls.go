package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/nano-os/nanoos/internal/auth"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

func (s *Server) workerProtocolRoutes() {
	s.workerRoute("POST "+workerPath+"attach", s.workerAttach)
	s.workerRoute("POST "+workerPath+"claim", s.workerClaim)
	s.workerRoute("POST "+workerPath+"interrupt", s.workerInterrupt)
	s.workerRoute("POST "+workerPath+"beat", s.workerBeat)
	s.workerRoute("POST "+workerPath+"orders", s.workerOrders)
	s.workerRoute("POST "+workerPath+"finish", s.workerFinish)
	s.workerRoute("POST "+workerPath+"leave", s.workerLeave)
}

// workerRoute adds a route of the worker protocol.
func (s *Server) workerRoute(pattern string, handle func(http.ResponseWriter, *http.Request) error) {
	s.page(pattern, func(w http.ResponseWriter, r *http.Request) error {
		if err := speaks(w, r); err != nil {
			return err
		}
		return handle(w, r)
	})
}

func (s *Server) workerAttach(w http.ResponseWriter, r *http.Request) error {
	var in attachRequest
	if err := readCall(w, r, maxBeat, &in); err != nil {
		return err
	}
	ctx, token := r.Context(), principal(r.Context()).token
	var err error
	if in.Session.Offer, err = within(token, in.Session.Offer); err != nil {
		return err
	}
	in.Session.Token = token.ID
	if err := s.mayAttach(ctx, in.Session); err != nil {
		return err
	}
	at, err := s.Queue.Attach(ctx, in.Session, in.Found)
	if err != nil {
		return err
	}
	out := attachReply{Fenced: at.Fenced}
	if out.Carry, err = s.prove(ctx, at.Carry); err != nil {
		return err
	}
	if out.Proof, err = s.prover.session(ctx, token.ID, in.Session.Worker); err != nil {
		return err
	}
	// If the reply is lost the worker attaches again, under new fences.
	_ = reply(w, out)
	return nil
}

// within cuts an offer down to the queues that a token covers.
func within(t auth.Token, o job.Offer) (job.Offer, error) {
	if len(t.Queues) == 0 {
		return o, nil
	}
	if len(o.Queues) == 0 {
		o.Queues = t.Queues
		return o, nil
	}
	asked := o.Queues
	o.Queues = slices.DeleteFunc(slices.Clone(asked), func(q string) bool { return !t.Serves(q) })
	if len(o.Queues) == 0 {
		// No queue at all would mean every queue.
		return o, &job.Error{Code: job.Forbidden, Message: "the token does not cover the queues of this worker",
			Why: fmt.Sprintf("the worker serves %q, the token %q", asked, t.Queues), Fix: "make a token for these queues: nanoos token create"}
	}
	return o, nil
}

// mayAttach keeps a worker from taking the name of one that came with another
// token, or with none, and so its jobs (T20). The same machine may come back
// with a new token, and so may anybody once the old token has ended.
func (s *Server) mayAttach(ctx context.Context, sess job.Session) error {
	if principal(ctx).role == auth.Admin {
		return nil
	}
	return s.Store.Read(ctx, func(tx store.ReadTx) error {
		old, err := tx.Worker(ctx, sess.Worker)
		if job.CodeOf(err) == job.NotFound {
			return nil
		}
		if err != nil || old.Token == sess.Token || old.Host == sess.Host {
			return err
		}
		tokens, err := tx.Tokens(ctx)
		if err != nil {
			return err
		}
		owner := slices.IndexFunc(tokens, func(t auth.Token) bool { return t.ID == old.Token })
		if old.Token != "" && (owner < 0 || !tokens[owner].Valid(tx.Now())) {
			return nil
		}
		return &job.Error{Code: job.Conflict, Message: fmt.Sprintf("worker name %q is in use", shorten(sess.Worker)),
			Why: "another machine attached under it with another token",
			Fix: "give this worker a name of its own, or forget the other: nanoos worker forget " + shorten(sess.Worker)}
	})
}

// giveBackTimeout bounds the return of leases that nobody took.
const giveBackTimeout = 5 * time.Second

// workerClaim hands out leases. Those that are ready when the worker has gone
// are given back at once; if the reply is lost on its way instead, the worker's
// next beats miss them.
func (s *Server) workerClaim(w http.ResponseWriter, r *http.Request) error {
	var in claimRequest
	if err := readCall(w, r, maxCall, &in); err != nil {
		return err
	}
	leave, err := s.admitPoll(r, in.Worker, in.Proof)
	if err != nil {
		return err
	}
	defer leave()
	free, err := within(principal(r.Context()).token, in.Free)
	if err != nil {
		return err
	}
	wait := pollWait(in.Wait)
	ctx, cancel := s.patient(w, r, wait)
	defer cancel(nil)
	defer s.polls.enter(pollName(in.Worker, in.Poll), cancel)()

	leases, err := s.Queue.Claim(ctx, in.Worker, free, in.Max, wait)
	if len(leases) == 0 && err != nil && !errors.Is(context.Cause(ctx), errInterrupted) {
		return err
	}
	out, err := s.prove(r.Context(), leases)
	if err != nil {
		s.giveBack(r.Context(), leases)
		return err
	}
	if r.Context().Err() != nil || reply(w, claimReply{out}) != nil {
		s.giveBack(r.Context(), leases)
	}
	return nil
}

// giveBack returns leases that did not reach their worker: nothing ran.
func (s *Server) giveBack(ctx context.Context, leases []job.Lease) {
	if len(leases) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackTimeout)
	defer cancel()
	ends := make([]job.Ending, len(leases))
	for i, l := range leases {
		ends[i] = job.Ending{ID: l.Job.ID, Fence: l.Fence, Outcome: job.Outcome{Released: true}}
	}
	for i, err := range s.Queue.FinishAll(ctx, ends) {
		if err != nil {
			s.Logger.Warn("cannot give back a job that its worker did not get; it is found missing later", "job", ends[i].ID, "error", err)
		}
	}
}

func (s *Server) workerInterrupt(w http.ResponseWriter, r *http.Request) error {
	var in interruptRequest
	if err := readCall(w, r, maxCall, &in); err != nil {
		return err
	}
	if err := s.checkSession(r.Context(), in.Worker, in.Proof); err != nil {
		return err
	}
	s.polls.interrupt(pollName(in.Worker, in.Poll))
	_ = reply(w, nothing{}) // the claim answers
	return nil
}

func pollName(worker, poll string) string { return worker + "\x00" + poll }

func (s *Server) workerBeat(w http.ResponseWriter, r *http.Request) error {
	var in beatRequest
	if err := readCall(w, r, maxBeat, &in); err != nil {
		return err
	}
	if err := s.checkSession(r.Context(), in.Worker, in.Proof); err != nil {
		return err
	}
	orders, err := s.Queue.Beat(r.Context(), in.Worker, in.Held)
	if err != nil {
		return err
	}
	_ = reply(w, ordersReply{orders}) // the next beat repeats it
	return nil
}

func (s *Server) workerOrders(w http.ResponseWriter, r *http.Request) error {
	var in ordersRequest
	if err := readCall(w, r, maxCall, &in); err != nil {
		return err
	}
	leave, err := s.admitPoll(r, in.Worker, in.Proof)
	if err != nil {
		return err
	}
	defer leave()
	wait := pollWait(in.Wait)
	ctx, cancel := s.patient(w, r, wait)
	defer cancel(nil)
	orders, err := s.Queue.Orders(ctx, in.Worker, wait)
	if err != nil {
		return err
	}
	_ = reply(w, ordersReply{orders}) // beats repeat it
	return nil
}

func (s *Server) workerFinish(w http.ResponseWriter, r *http.Request) error {
	var in finishRequest
	if err := readCall(w, r, maxFinishBody, &in); err != nil {
		return err
	}
	out := finishReply{Errors: make([]*job.Error, len(in.Endings))}
	var ends []job.Ending
	var at []int // where in the request each of ends stands
	for i, e := range in.Endings {
		if err := s.checkLease(r.Context(), e.ID, e.Fence, e.Proof); err != nil {
			out.Errors[i] = wordsOf(r.Context(), err)
			continue
		}
		ends, at = append(ends, e.Ending), append(at, i)
	}
	errs := s.Queue.FinishAll(r.Context(), ends)
	for i, err := range errs {
		if err != nil {
			out.Errors[at[i]] = wordsOf(r.Context(), err)
		}
	}
	_ = reply(w, out) // to finish again is no error
	for i, e := range ends {
		if errs[i] == nil {
			s.settled(context.WithoutCancel(r.Context()), e.ID, e.Fence)
		}
	}
	return nil
}

// wordsOf is an error as the wire may carry it.
func wordsOf(ctx context.Context, err error) *job.Error {
	p := problemOf(ctx, err)
	return &job.Error{Code: job.Code(p.Code), Message: p.Message, Why: p.Why, Fix: p.Fix, Problems: p.Problems}
}

func (s *Server) workerLeave(w http.ResponseWriter, r *http.Request) error {
	var in leaveRequest
	if err := readCall(w, r, maxCall, &in); err != nil {
		return err
	}
	if err := s.checkSession(r.Context(), in.Worker, in.Proof); err != nil {
		return err
	}
	if err := s.Queue.Leave(r.Context(), in.Worker); err != nil {
		return err
	}
	_ = reply(w, nothing{}) // to leave again is no error
	return nil
}

// maxPollWait bounds a long poll, below the idle timeouts of usual proxies.
const maxPollWait = 55 * time.Second

func pollWait(d job.Duration) time.Duration { return max(0, min(time.Duration(d), maxPollWait)) }

// admitPoll checks the session of a long poll and counts it (F46).
func (s *Server) admitPoll(r *http.Request, worker string, sent proof) (leave func(), err error) {
	if err := s.checkSession(r.Context(), worker, sent); err != nil {
		return nil, err
	}
	if s.closing.Err() != nil {
		return nil, errStopping
	}
	return s.pollCap.take("address "+hostOf(r.RemoteAddr), "token "+principal(r.Context()).token.ID)
}
