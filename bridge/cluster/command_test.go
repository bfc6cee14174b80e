package cluster

import (
	"fmt"
	"time"
)

// requested takes the commands that the broker has no PUBACK for.
func (o *owner) requested() {
	if !o.connected || o.stopping {
		return
	}
	c := o.conn
	for _, id := range o.at.requests {
		o.later(o.n.s.quick(), func() {
			ack := func() {
				if o.conn == c {
					o.send(func() { o.at.acknowledge(id) })
				}
			}
			if e, known := o.state.executions[id]; known || o.began[id] {
				if known && e != (execution{}) {
					ack()
				}
				return
			}
			o.began[id] = true
			o.state = o.state.with(id, execution{open: true})
			o.write(func(s state) state { return s.with(id, execution{open: true}) }, func() { ack(); o.goOn(id, Call) })
		})
	}
}

func (p *place) acknowledge(id string) {
	for i, r := range p.requests {
		if r == id {
			p.requests = append(p.requests[:i:i], p.requests[i+1:]...)
			return
		}
	}
}

// goOn calls a handler, or waits for the reply to a call.
func (o *owner) goOn(id string, how Takeover) {
	o.began[id] = true
	deadline := o.n.s.now + 15*time.Second
	if how == Wait {
		o.listen(id, deadline)
		return
	}
	if o.stopping {
		return
	}
	call := func() {
		o.n.s.after(o.n.s.quick(), func() { o.n.s.called(o.p, id) })
		o.listen(id, deadline)
	}
	if o.n.s.broken.notNoted {
		call()
		return
	}
	sent := o.n.s.now
	o.state = o.state.with(id, execution{true, true})
	o.write(func(s state) state { return s.with(id, execution{true, true}) }, func() {
		if o.n.s.now-sent > 3*beat { // the note may be another owner's past by now
			o.goOn(id, Call)
			return
		}
		call()
	})
}

func (s *sim) called(p int, id string) {
	s.judge.calls(id)
	s.after(s.between(50*time.Millisecond, 3*time.Second), func() { s.shards[p].replies[id] = true })
}

func (o *owner) listen(id string, deadline Time) {
	o.call(func() any { return o.at.replies[id] }, func(r any) {
		switch {
		case r == true:
			o.respond(id, "SUCCEEDED")
		case o.n.s.now > deadline:
			o.respond(id, "TIMED_OUT")
		default:
			o.later(200*time.Millisecond, func() { o.listen(id, deadline) })
		}
	})
}

// respond sends the response that was the first to be claimed.
func (o *owner) respond(id, status string) {
	mine := fmt.Sprint(status, " by ", o.n.id, " ", o.epoch)
	o.call(func() any {
		if o.at.done[id] == "" {
			o.at.done[id] = mine
		}
		return o.at.done[id]
	}, func(r any) {
		if r == nil || !o.connected || o.stopping {
			o.later(300*time.Millisecond, func() { o.respond(id, status) })
			return
		}
		o.send(func() {
			o.n.s.judge.responds(id, r.(string))
			o.later(o.n.s.quick(), func() { o.write(func(s state) state { return s.with(id, execution{}) }, func() {}) })
		})
		o.later(2*time.Second, func() { // it was lost with its connection
			if o.n.s.judge.response[id] == "" {
				o.respond(id, status)
			}
		})
	})
}
