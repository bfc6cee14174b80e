package demo

import (
	"context"
	"fmt"
	"time"
)

// flow is one step of the tour: a name, what there is to see, and a play that checks what came of it.
type flow struct {
	name, shows string
	play        func(*stage, context.Context) error
}

// flows is the tour. Each flow goes on where the one before it ended, and copes with one that failed.
func flows() []flow {
	return []flow{
		{"connect", "The bridge holds the Thing's one MQTT session: it subscribes, reads the shadow, asks for jobs.", (*stage).connect},
		{"report", "A program publishes state on NATS. Once it has the PubAck, the message is the gateway's to deliver.", (*stage).report},
		{"merged reports", "Two programs report parts. The bridge sends the whole each time, so neither erases the other's.", (*stage).mergedReports},
		{"event", "A program tells what happened, but not when. The bridge fills in the time of publishing.", (*stage).event},
		{"desired state", "The cloud wants a change: push and delta come down, the program applies it and reports.", (*stage).desired},
		{"command", "The cloud commands. The bridge calls the program that serves it; the reply is the response.", (*stage).command},
		{"command that nobody serves", "No program serves openWindow. The bridge answers for it, so the cloud need not wait.", (*stage).unserved},
		{"command redelivered", "The broker brings cmd-1 again. It does not run twice, and has one response.", (*stage).redelivered},
		{"command that is too late", "A command's time was over before it came. It never runs; the cloud is told; it is kept.", (*stage).expired},
		{"job", "The cloud queues a job. One program gets it on lease, tells its progress and ends it.", (*stage).job},
		{"bad payload", "severity is info, warn or error; a program says warning. That never leaves the gateway.", (*stage).badPayload},
		{"link lost", "The broker is out of reach. Programs don't notice: the gateway stores what they publish.", (*stage).linkLost},
		{"shadow on request", "A program asks for the whole shadow document. The bridge gets it over HTTP.", (*stage).shadowGet},
		{"what is left", "Every message has ended as delivered, duplicate or dead; the metrics have counted each once.", (*stage).left},
	}
}

// flowTime is how long a flow may take. They are a matter of milliseconds, on a machine at rest.
const flowTime = 10 * time.Second

// tour plays every flow and returns how many there are and which failed.
func (s *stage) tour(ctx context.Context) (total int, failed []string) {
	all := flows()
	for i, f := range all {
		if ctx.Err() != nil {
			break
		}
		s.account.heading(i+1, f)
		play, cancel := context.WithTimeout(ctx, s.patience)
		err := f.play(s, play)
		cancel()
		if ctx.Err() != nil {
			break
		}
		s.show(ctx)
		if err != nil {
			s.account.cross(err)
			failed = append(failed, fmt.Sprintf("%d %s", i+1, f.name))
		}
	}
	return len(all), failed
}
