package bridge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// answers is a cloud that keeps questions until the test answers them.
type answers struct {
	*sink
	x *Exchange
}

func newExchange() *answers {
	a := &answers{sink: &sink{}}
	a.x = NewExchange(pump07, a.sink, "test")
	return a
}

// reply answers question i with this payload, in which %s is the question's token.
func (a *answers) reply(i int, c mapping.Channel, payload string) bool {
	q := a.messages()[i]
	if strings.Contains(payload, "%s") {
		payload = fmt.Sprintf(payload, gjson.GetBytes(q.Payload, "clientToken").String())
	}
	_, taken := a.x.Answer(Message{Address: mapping.Address{Thing: pump07, Channel: c, ID: q.Address.ID}, Payload: []byte(payload)})
	return taken
}

type outcome struct {
	payload string
	err     error
}

func (a *answers) ask(ctx context.Context, at mapping.Address, payload string) <-chan outcome {
	out := make(chan outcome, 1)
	go func() {
		m, err := a.x.Ask(ctx, at, []byte(payload), Trace{})
		out <- outcome{string(m.Payload), err}
	}()
	return out
}

// Trap T4: callers' tokens collide; each gets its own answer and its own token back.
func TestT4TokensOfManyCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newExchange()
		first := a.ask(t.Context(), at(mapping.JobUpdate, "j1"), `{"status":"SUCCEEDED","clientToken":"req-1"}`)
		second := a.ask(t.Context(), at(mapping.JobUpdate, "j2"), `{"status":"FAILED","clientToken":"req-1"}`)
		third := a.ask(t.Context(), at(mapping.JobUpdate, "j3"), `{"status":"FAILED"}`)
		synctest.Wait()
		tokens := map[string]bool{}
		byJob := map[string]int{}
		for i, q := range a.messages() {
			token := gjson.GetBytes(q.Payload, "clientToken").String()
			if tokens[token] || token == "req-1" || token == string(pump07) || token == "" || len(token) > 64 {
				t.Errorf("token on the wire: %q", token)
			}
			if gjson.GetBytes(q.Payload, "thingName").String() != "pump-07" {
				t.Errorf("no thingName: %s", q.Payload)
			}
			tokens[token] = true
			byJob[q.Address.ID] = i
		}
		for job, i := range byJob {
			if !a.reply(i, mapping.JobUpdateAccepted, `{"clientToken":"%s","job":"`+job+`"}`) {
				t.Errorf("the answer for %s was not taken", job)
			}
		}
		for ch, want := range map[<-chan outcome]string{
			first: `{"clientToken":"req-1","job":"j1"}`, second: `{"clientToken":"req-1","job":"j2"}`, third: `{"job":"j3"}`,
		} {
			if got := <-ch; got.payload != want || got.err != nil {
				t.Errorf("got %+v, want %s", got, want)
			}
		}
	})
}

// Trap T6: an answer without a token is matched by its topic; jobs.get goes one at a time.
func TestT6AnswerWithoutToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newExchange()
		var got sync.Map
		for i := range 3 {
			ch := a.ask(t.Context(), at(mapping.JobsGet, ""), `{}`)
			go func() { o := <-ch; got.Store(o.payload, o.err); _ = i }()
		}
		for i := range 3 {
			synctest.Wait()
			if n := len(a.messages()); n != i+1 {
				t.Fatalf("%d questions on the wire, want %d", n, i+1)
			}
			if !a.reply(i, mapping.JobsGetAccepted, fmt.Sprintf(`{"n":%d}`, i)) {
				t.Fatal("not taken")
			}
		}
		synctest.Wait()
		for i := range 3 {
			if _, ok := got.Load(fmt.Sprintf(`{"n":%d}`, i)); !ok {
				t.Errorf("answer %d reached nobody", i)
			}
		}
	})
}

// Trap T5: an answer that nobody waits for belongs to everybody, with the token of whoever gave up.
func TestT5LateAndForeignAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newExchange()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ch := a.ask(ctx, at(mapping.JobsGet, ""), `{"clientToken":"mine"}`)
		if got := <-ch; !errors.Is(got.err, context.DeadlineExceeded) {
			t.Fatalf("got %+v, want a deadline", got)
		}
		token := gjson.GetBytes(a.messages()[0].Payload, "clientToken").String()
		late := Message{Address: at(mapping.JobsGetAccepted, ""), Payload: []byte(`{"clientToken":"` + token + `","queuedJobs":[]}`)}
		m, taken := a.x.Answer(late)
		if taken || string(m.Payload) != `{"clientToken":"mine","queuedJobs":[]}` {
			t.Errorf("late answer: %s, taken %v", m.Payload, taken)
		}

		second := a.ask(t.Context(), at(mapping.JobsGet, ""), `{}`)
		synctest.Wait()
		foreign := Message{Address: at(mapping.JobsGetAccepted, ""), Payload: []byte(`{"clientToken":"somebody"}`)}
		if _, taken := a.x.Answer(foreign); taken {
			t.Error("a foreign token was taken for ours")
		}
		if !a.reply(1, mapping.JobsGetRejected, `{"clientToken":"%s","code":"InternalError"}`) {
			t.Error("our own answer was not taken")
		}
		if got := <-second; got.payload != `{"code":"InternalError"}` {
			t.Errorf("got %+v", got)
		}
	})
}

func TestAskWhileTheLinkIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newExchange()
		a.err = ErrNotConnected
		for range 2 { // the lane is free again after the first
			if got := <-a.ask(t.Context(), at(mapping.JobsStartNext, ""), `{}`); !errors.Is(got.err, ErrNotConnected) {
				t.Errorf("got %+v", got)
			}
		}
	})
}

// A caller that gives up while it waits for its turn leaves the lane to the others.
func TestGivingUpInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newExchange()
		first := a.ask(t.Context(), at(mapping.JobsStartNext, ""), `{}`)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if got := <-a.ask(ctx, at(mapping.JobsStartNext, ""), `{}`); !errors.Is(got.err, context.DeadlineExceeded) {
			t.Errorf("got %+v", got)
		}
		third := a.ask(t.Context(), at(mapping.JobsStartNext, ""), `{}`)
		a.reply(0, mapping.JobsStartNextAccepted, `{"clientToken":"%s","n":1}`)
		if got := <-first; got.payload != `{"n":1}` {
			t.Errorf("got %+v", got)
		}
		synctest.Wait()
		a.reply(1, mapping.JobsStartNextAccepted, `{"clientToken":"%s","n":3}`)
		if got := <-third; got.payload != `{"n":3}` {
			t.Errorf("got %+v", got)
		}
		if len(a.x.turns) != 0 {
			t.Errorf("%d turns are left", len(a.x.turns))
		}
	})
}

// A token that is null is none to match by, and comes back to a caller who sent it.
func TestNullToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newExchange()
		first := a.ask(t.Context(), at(mapping.JobsGet, ""), `{"clientToken":null}`)
		synctest.Wait()
		if token := gjson.GetBytes(a.messages()[0].Payload, "clientToken"); token.Type != gjson.String {
			t.Errorf("token on the wire: %s", token.Raw)
		}
		if !a.reply(0, mapping.JobsGetAccepted, `{"clientToken":null,"n":1}`) {
			t.Fatal("an answer whose token is null was not taken")
		}
		if got := <-first; got.payload != `{"clientToken":null,"n":1}` {
			t.Errorf("got %+v", got)
		}
		second := a.ask(t.Context(), at(mapping.JobsGet, ""), `{}`)
		synctest.Wait()
		a.reply(1, mapping.JobsGetAccepted, `{"clientToken":null,"n":2}`)
		if got := <-second; got.payload != `{"n":2}` {
			t.Errorf("got %+v", got)
		}
	})
}

// late asks about a job and gives up; it returns the token on the wire.
func (a *answers) late(t *testing.T, job string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if got := <-a.ask(ctx, at(mapping.JobGet, job), `{"clientToken":"mine"}`); !errors.Is(got.err, context.DeadlineExceeded) {
		t.Fatalf("got %+v, want a deadline", got)
	}
	all := a.messages()
	return gjson.GetBytes(all[len(all)-1].Payload, "clientToken").String()
}

// came hands in a late answer and returns the token that it goes on with.
func (a *answers) came(job, token string) string {
	m, _ := a.x.Answer(Message{Address: at(mapping.JobGetAccepted, job), Payload: []byte(`{"clientToken":"` + token + `"}`)})
	return gjson.GetBytes(m.Payload, "clientToken").String()
}

// Tokens of those who gave up are kept for ten minutes, a thousand of them, and used once.
func TestLateTokensAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newExchange()
		old, kept := a.late(t, "old"), a.late(t, "kept")
		time.Sleep(lateFor - 30*time.Second)
		if got := a.came("kept", kept); got != "mine" {
			t.Errorf("after nine minutes: token %s", got)
		}
		if got := a.came("kept", kept); got != kept {
			t.Errorf("a second answer: token %s", got)
		}
		time.Sleep(time.Minute)
		young := a.late(t, "young")
		if got := a.came("old", old); got != old {
			t.Errorf("after more than ten minutes: token %s", got)
		}
		if got := a.came("young", young); got != "mine" {
			t.Errorf("at once: token %s", got)
		}
		for i := range lateMax + 10 {
			w := &waiter{token: fmt.Sprint(i)}
			a.x.mu.Lock()
			a.x.remember(w)
			a.x.mu.Unlock()
		}
		if len(a.x.late) != lateMax {
			t.Errorf("%d tokens are kept, want %d", len(a.x.late), lateMax)
		}
	})
}
