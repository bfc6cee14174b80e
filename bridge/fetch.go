package bridge

import (
	"context"
	"errors"
	"time"

	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// fetcher fetches a Thing's shadow document: from the HTTP API, with what its answers are checked against.
type fetcher struct {
	thing   mapping.Thing
	api     ShadowAPI // nil: none is configured
	catalog *schemas.Catalog
	shadow  *Shadow
}

// ask fetches the document. What is no document is an error, whatever its HTTP status was.
func (f fetcher) ask(ctx context.Context) (q Question, body []byte, err error) {
	q = f.shadow.Asks()
	if body, err = f.api.Shadow(ctx, f.thing); err != nil {
		return q, nil, err
	}
	if err := f.shadow.Judge(body); err != nil {
		return q, nil, err
	}
	if err := rejection(ctx, f.catalog.Check(ctx, "shadow.document", body)); err != nil {
		return q, nil, err
	}
	return q, body, nil
}

// Bounds of what waits for the HTTP API.
const (
	// gateTime is how long shadow messages wait for a GET. An API that hangs costs them no more.
	gateTime = 900 * time.Millisecond
	// baseTime is how long a new gateway's first report waits for the document that it is to be merged into.
	baseTime = 12 * time.Second
	// refetchMin and refetchMax bound the pause before the next GET after one that failed.
	refetchMin = 5 * time.Second
	refetchMax = 5 * time.Minute
)

// fetch reads the shadow over HTTP and delivers a delta that programs have not seen. The gate is shut meanwhile, so that
// each message of the broker is delivered before the GET or after it. But it opens after gateTime: what passes a slow GET
// is newer than its answer.
func (t *Thing) fetch(ctx context.Context) error {
	type answer struct {
		q    Question
		body []byte
		err  error
	}
	if err := t.gate.Pause(ctx); err != nil {
		return err
	}
	answered := make(chan answer, 1)
	go func() {
		q, body, err := t.fetcher.ask(ctx)
		answered <- answer{q, body, err}
	}()
	patience := time.NewTimer(gateTime)
	defer patience.Stop()
	var a answer
	select {
	case a = <-answered:
	case <-patience.C:
		t.gate.Resume()
		if a = <-answered; a.err != nil {
			return a.err
		}
		if err := t.gate.Pause(ctx); err != nil {
			return err
		}
	}
	defer t.gate.Resume()
	if a.err != nil {
		return a.err
	}
	delta, err := t.shadow.Fetched(a.q, a.body)
	if err != nil {
		return err
	}
	t.shadow.Save(ctx, nil)
	if delta != nil {
		if err := t.deliver(ctx, delta); err != nil {
			t.shadow.Undelivered()
			return err
		}
	}
	t.fetched(ctx)
	return nil
}

// deliver stores a delta that was read over HTTP for the programs.
func (t *Thing) deliver(ctx context.Context, delta []byte) error {
	a := mapping.Address{Thing: t.Name, Channel: mapping.ShadowDelta}
	stored := make(chan error, 1)
	m := Message{Address: a, Payload: delta, Received: time.Now(), Origin: a.Topic(), Source: SourceShadowGet}
	if err := t.ports.Down.Send(ctx, m, func(err error) { stored <- err }); err != nil {
		return err
	}
	select {
	case err := <-stored:
		return err // larger than NATS takes, or nil
	case <-ctx.Done():
		return nil // it will be stored
	}
}

func (t *Thing) fetched(ctx context.Context) {
	if t.said.Swap(nil) != nil {
		t.ports.Log.Info("the shadow is fetched again")
	}
	t.Status.Change(ctx, func(s *Status) {
		s.Shadow = ShadowKnown
		if s.Subscribed { // else the trouble with that is not over
			s.LastError = ""
		}
	})
}

func (t *Thing) unfetched(ctx context.Context, err error) {
	if errors.Is(err, ErrNotFound) && t.shadow.GiveUpBase() {
		t.ports.Log.Debug("the cloud has no document to merge reports into")
	}
	state := ShadowUnknown
	if t.shadow.Known() {
		state = ShadowStale
	}
	text := err.Error()
	if before := t.said.Swap(&text); before == nil || *before != text {
		t.ports.Log.Warn("shadow not fetched", "error", err)
	}
	t.Status.Change(ctx, func(s *Status) { s.Shadow, s.LastError = state, "shadow: "+text })
}

// fetchAgain tries to fetch the shadow until it succeeds, or the connection is lost.
func (t *Thing) fetchAgain(ctx context.Context) {
	wait := time.Duration(0)
	for pause := refetchMin; t.Status.Status().Connected; pause = min(2*pause, refetchMax) {
		if flow.Sleep(ctx, max(pause, wait)) != nil {
			return
		}
		err := t.fetch(ctx)
		if err == nil {
			return
		}
		wait = retryAfter(err)
		if ctx.Err() == nil && t.Status.Status().Connected {
			t.unfetched(ctx, err)
		}
	}
}

// retryAfter is the pause that an error asks for.
func retryAfter(err error) time.Duration {
	if later := (*RetryLater)(nil); errors.As(err, &later) {
		return later.After
	}
	return 0
}

// baseUnknown lets reports go some time after the first connection, whatever became of the GET.
func (t *Thing) baseUnknown() {
	t.patience.Do(func() {
		time.AfterFunc(baseTime, func() {
			if t.shadow.GiveUpBase() {
				t.ports.Log.Warn("reports go up although the cloud's shadow document could not be fetched; what it has beyond them may be lost, if it replaces what was reported")
			}
		})
	})
}
