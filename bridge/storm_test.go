package bridge

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/mapping"
)

// T34: a storm of notifications is delivered and starts nothing by itself, now or later.
func TestT34NotifyStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud, down, b := &quietCloud{feed: make(feed)}, &sink{}, newMemory()
		thing, err := NewThing(t.Context(), ThingConfig{Thing: pump07, Instance: "x"}, Ports{
			Cloud: cloud, Down: down, Graveyard: &graveyard{}, Archive: archive{}, Outbox: &outbox{},
			Lanes:   map[mapping.Kind]Source{mapping.Commands: make(feed), mapping.Jobs: make(feed), mapping.Shadow: make(feed), mapping.Events: make(feed)},
			Shadows: b, Statuses: newMemory(), Executions: b, Leases: b, Marks: newMemory(), Catalog: catalog(t), Observer: &fates{}, Now: time.Now, Log: quiet(),
		})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- thing.Run(t.Context(), t.Context()) }()
		thing.Ready(t.Context(), true)
		for i := range 50 {
			cloud.feed <- arriving(mapping.JobsNotify, "", fmt.Sprintf(`{"jobs":{"n":%d}}`, i))
			cloud.feed <- arriving(mapping.JobsNotifyNext, "", `{"execution":{"jobId":"j1"}}`)
		}
		time.Sleep(10 * time.Minute)
		if n := len(down.messages()); n != 100 {
			t.Errorf("%d notifications came down, want 100", n)
		}
		if asked := cloud.messages(); len(asked) != 1 || asked[0].Address.Channel != mapping.JobsGet {
			t.Errorf("%d questions, want the one after connecting: %+v", len(asked), asked)
		}
	})
}
