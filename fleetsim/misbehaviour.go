package fleetsim

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tidwall/sjson"
)

// Misbehaviour makes the cloud unreliable, repeatably: the same seed and the same course of messages
// give the same faults. Probabilities are from 0 to 1. The zero value behaves.
type Misbehaviour struct {
	Seed uint64
	// LateAnswers holds the answers to jobs questions back for a random time up to this.
	LateAnswers time.Duration
	DropAnswers float64 // a question is carried out, but not answered
	DropToken   float64 // an answer lacks its clientToken
	RejectRate  float64 // a question is not carried out, but answered rejected: RequestThrottled
	Duplicate   float64 // a message is sent twice
	Reorder     float64 // a message lets the next one overtake it
	// ReorderWait is how long such a message waits for the next at most; 0: 100 ms.
	ReorderWait time.Duration
}

// FaultError is a field of a Misbehaviour that holds what can't be.
type FaultError struct{ Field, Reason string }

func (e *FaultError) Error() string { return "misbehaviour " + e.Field + ": " + e.Reason }

// Check finds every probability outside 0 to 1, and every negative time. It joins *FaultErrors.
func (m Misbehaviour) Check() error {
	var out []error
	for _, p := range []struct {
		name  string
		value float64
	}{{"DropAnswers", m.DropAnswers}, {"DropToken", m.DropToken}, {"RejectRate", m.RejectRate}, {"Duplicate", m.Duplicate}, {"Reorder", m.Reorder}} {
		if !(p.value >= 0 && p.value <= 1) {
			out = append(out, &FaultError{p.name, fmt.Sprintf("%v is no probability, use 0 to 1", p.value)})
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"LateAnswers", m.LateAnswers}, {"ReorderWait", m.ReorderWait}} {
		if d.value < 0 {
			out = append(out, &FaultError{d.name, fmt.Sprintf("%v is negative", d.value)})
		}
	}
	return errors.Join(out...)
}

// SetMisbehaviour replaces it at runtime and begins its random numbers anew. What Check refuses is
// an error that changes nothing.
func (s *Sim) SetMisbehaviour(m Misbehaviour) error {
	if err := m.Check(); err != nil {
		return err
	}
	s.chaos.mu.Lock()
	defer s.chaos.mu.Unlock()
	s.chaos.Misbehaviour = m
	s.chaos.random = rand.New(rand.NewPCG(m.Seed, 0))
	return nil
}

type chaos struct {
	mu sync.Mutex
	Misbehaviour
	random *rand.Rand
}

// fate is what happens to one message.
type fate struct {
	drop    bool
	payload []byte // replaces the message's, if set
	copies  int
	late    time.Duration
	wait    time.Duration // for another message to overtake it; 0: it goes at once
}

func (c *chaos) fate(m outgoing) fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := fate{copies: 1}
	if m.answer {
		f.drop = c.hits(c.DropAnswers)
		if c.hits(c.DropToken) {
			f.payload, _ = sjson.DeleteBytes(m.payload, "clientToken")
		}
		if c.LateAnswers > 0 {
			f.late = time.Duration(c.random.Int64N(int64(c.LateAnswers)) + 1)
		}
	}
	if c.hits(c.Duplicate) {
		f.copies = 2
	}
	if c.hits(c.Reorder) {
		f.wait = cmp.Or(c.ReorderWait, 100*time.Millisecond)
	}
	return f
}

func (c *chaos) rejects() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hits(c.RejectRate)
}

func (c *chaos) hits(probability float64) bool {
	return probability > 0 && c.random.Float64() < probability
}
