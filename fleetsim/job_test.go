package fleetsim_test

import (
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/fleetsim"
)

func TestJob(t *testing.T) {
	brokers(t, func(t *testing.T, o fleetsim.Options) {
		sim := start(t, o)
		d := newDevice(t, sim.BrokerURL())
		ctx := deadline(t)
		for _, id := range []string{"first", "second"} {
			must(sim.CreateJob(fleetsim.Job{ID: id, Things: []string{name}, Document: []byte(`{"v":2.0}`)}))(t)
		}
		notify := d.receive("jobs/notify")
		wantFields(t, notify, map[string]string{"jobs.QUEUED.#": "1", "jobs.QUEUED.0.jobId": `"first"`, "jobs.QUEUED.0.versionNumber": "1"})
		wantFields(t, d.receive("jobs/notify-next"), map[string]string{"execution.jobId": `"first"`, "execution.status": `"QUEUED"`, "execution.jobDocument.v": "2.0"})
		wantFields(t, d.receive("jobs/notify"), map[string]string{"jobs.QUEUED.1.jobId": `"second"`})

		list := d.ask("jobs/get", `{"thingName":"pump-07","clientToken":"t1"}`, "accepted")
		wantFields(t, list, map[string]string{"queuedJobs.#.jobId": `["first","second"]`, "inProgressJobs": "[]", "clientToken": `"t1"`})

		started := d.ask("jobs/start-next", `{"thingName":"pump-07","statusDetails":{"p":"0"},"stepTimeoutInMinutes":60,"clientToken":"t2"}`, "accepted")
		wantFields(t, started, map[string]string{
			"execution.jobId": `"first"`, "execution.thingName": `"pump-07"`, "execution.status": `"IN_PROGRESS"`, "execution.statusDetails": `{"p":"0"}`,
			"execution.jobDocument": `{"v":2.0}`, "execution.versionNumber": "1", "clientToken": `"t2"`,
		})
		if number := started.Get("execution.executionNumber").Raw; len(number) < 13 {
			t.Errorf("executionNumber %s", number)
		}
		again := d.ask("jobs/start-next", `{"statusDetails":{"p":"other"}}`, "accepted")
		if again.Get("execution").Raw != started.Get("execution").Raw || again.Get("clientToken").Exists() {
			t.Errorf("asked again: %s", again.Raw)
		}

		described := d.ask("jobs/first/get", `{"includeJobDocument":false}`, "accepted")
		wantFields(t, described, map[string]string{"execution.jobId": `"first"`, "execution.jobDocument": ""})

		updated := d.ask("jobs/first/update", `{"status":"IN_PROGRESS","statusDetails":{"p":"50"},"expectedVersion":1,"clientToken":"t3"}`, "accepted")
		wantFields(t, updated, map[string]string{"executionState": `{"status":"IN_PROGRESS","statusDetails":{"p":"50"},"versionNumber":2}`, "clientToken": `"t3"`})
		d.ask("jobs/first/update", `{"status":"SUCCEEDED","expectedVersion":"2"}`, "accepted")
		e := must(sim.WaitExecution(ctx, "first", name, fleetsim.Succeeded))(t)
		if e.VersionNumber != 3 || string(e.StatusDetails) != `{"p":"50"}` {
			t.Errorf("execution %+v", e)
		}
		wantFields(t, d.receive("jobs/notify-next"), map[string]string{"execution.jobId": `"second"`})

		d.ask("jobs/start-next", `{}`, "accepted")
		d.ask("jobs/second/update", `{"status":"REJECTED"}`, "accepted")
		if empty := d.receive("jobs/notify-next"); empty.Get("execution").Exists() {
			t.Errorf("the queue is empty: %s", empty.Raw)
		}
		if none := d.ask("jobs/start-next", `{}`, "accepted"); none.Get("execution").Exists() {
			t.Errorf("nothing is pending: %s", none.Raw)
		}
	})
}

func TestJobRejections(t *testing.T) {
	sim := start(t, fleetsim.Options{Things: []string{name, "other"}})
	d := newDevice(t, sim.BrokerURL())
	for _, j := range []fleetsim.Job{{ID: "done", Things: []string{name}}, {ID: "open", Things: []string{name}}, {ID: "foreign", Things: []string{"other"}}} {
		j.Document = []byte(`{}`)
		must(sim.CreateJob(j))(t)
	}
	d.ask("jobs/done/update", `{"status":"SUCCEEDED","expectedVersion":1}`, "accepted")
	for _, c := range []struct{ tail, payload, code, state string }{
		{"jobs/done/update", `{"status":"SUCCEEDED","expectedVersion":1,"clientToken":"t"}`, "VersionMismatch", `{"status":"SUCCEEDED","versionNumber":2}`},
		{"jobs/done/update", `{"status":"FAILED","clientToken":"t"}`, "TerminalStateReached", `{"status":"SUCCEEDED","versionNumber":2}`},
		{"jobs/done/get", `{"clientToken":"t"}`, "TerminalStateReached", `{"status":"SUCCEEDED","versionNumber":2}`},
		{"jobs/open/update", `{"status":"FAILED","expectedVersion":2,"clientToken":"t"}`, "VersionMismatch", `{"status":"QUEUED","versionNumber":1}`},
		{"jobs/open/get", `{"executionNumber":1,"clientToken":"t"}`, "ResourceNotFound", ""},
		{"jobs/foreign/get", `{"clientToken":"t"}`, "ResourceNotFound", ""},
		{"jobs/none/update", `{"status":"FAILED","clientToken":"t"}`, "ResourceNotFound", ""},
		{"jobs/$next/get", `{"clientToken":"t"}`, "ResourceNotFound", ""},
		{"jobs/open/update", `{"status":"QUEUED","clientToken":"t"}`, "InvalidRequest", ""},
		{"jobs/open/update", `{"clientToken":"t"}`, "InvalidRequest", ""},
		{"jobs/open/update", `{"status":"FAILED","statusDetails":1,"clientToken":"t"}`, "InvalidRequest", ""},
		{"jobs/open/update", `{"status":"FAILED","expectedVersion":1.0,"clientToken":"t"}`, "InvalidRequest", ""},
		{"jobs/start-next", `{"stepTimeoutInMinutes":0,"clientToken":"t"}`, "InvalidRequest", ""},
		{"jobs/start-next", `{"stepTimeoutInMinutes":10081,"clientToken":"t"}`, "InvalidRequest", ""},
		{"jobs/start-next", `{"stepTimeoutInMinutes":"60","clientToken":"t"}`, "InvalidRequest", ""},
		{"jobs/get", `{"thingName":"other","clientToken":"t"}`, "InvalidRequest", ""},
		{"jobs/get", `{`, "InvalidJson", ""},
		{"jobs/get", `{"clientToken":5}`, "InvalidRequest", ""},
	} {
		t.Run(c.tail+" "+c.payload, func(t *testing.T) {
			r := d.ask(c.tail, c.payload, "rejected")
			wantFields(t, r, map[string]string{"code": `"` + c.code + `"`, "executionState": c.state, "clientToken": map[bool]string{true: `"t"`}[gjson.Get(c.payload, "clientToken").Type == gjson.String]})
			if r.Get("message").String() == "" || r.Get("timestamp").Int() == 0 {
				t.Errorf("rejection %s", r.Raw)
			}
		})
	}
}

func TestJobTimesOutAndIsCanceled(t *testing.T) {
	sim := start(t, fleetsim.Options{Minute: time.Millisecond, StartBumps: true, TerseUpdates: true})
	d := newDevice(t, sim.BrokerURL())
	ctx := deadline(t)
	for _, id := range []string{"slow", "b", "c"} {
		must(sim.CreateJob(fleetsim.Job{ID: id, Things: []string{name}, Document: []byte(`{}`)}))(t)
	}
	started := d.ask("jobs/start-next", `{"stepTimeoutInMinutes":20}`, "accepted")
	wantFields(t, started, map[string]string{"execution.versionNumber": "2"})
	must(sim.WaitExecution(ctx, "slow", name, fleetsim.TimedOut))(t)

	wantFields(t, d.ask("jobs/start-next", `{}`, "accepted"), map[string]string{"execution.jobId": `"b"`})
	terse := d.ask("jobs/b/update", `{"status":"IN_PROGRESS"}`, "accepted")
	if terse.Get("executionState").Exists() {
		t.Errorf("terse answer %s", terse.Raw)
	}
	asked := d.ask("jobs/b/update", `{"status":"IN_PROGRESS","includeJobExecutionState":true,"includeJobDocument":true}`, "accepted")
	wantFields(t, asked, map[string]string{"executionState.versionNumber": "4", "jobDocument": "{}"})
	if err := sim.CancelJob("b", false); err != nil {
		t.Fatal(err)
	}
	if got := must(sim.Executions("b"))(t)[0].Status; got != fleetsim.InProgress {
		t.Errorf("canceled without force: %s", got)
	}
	if err := sim.CancelJob("b", true); err != nil {
		t.Fatal(err)
	}
	must(sim.WaitExecution(ctx, "b", name, fleetsim.Canceled))(t)
	wantFields(t, d.ask("jobs/b/update", `{"status":"SUCCEEDED"}`, "rejected"), map[string]string{"code": `"TerminalStateReached"`, "executionState.status": `"CANCELED"`})
	if err := sim.CancelJob("c", false); err != nil {
		t.Fatal(err)
	}
	must(sim.WaitExecution(ctx, "c", name, fleetsim.Canceled))(t)
}

func TestCreateJobRefuses(t *testing.T) {
	sim := start(t, fleetsim.Options{})
	must(sim.CreateJob(fleetsim.Job{ID: "used", Things: []string{name}, Document: []byte(`{}`)}))(t)
	for about, j := range map[string]fleetsim.Job{
		"no things":     {Document: []byte(`{}`)},
		"unknown thing": {Document: []byte(`{}`), Things: []string{"nobody"}},
		"thing twice":   {Document: []byte(`{}`), Things: []string{name, name}},
		"no document":   {Things: []string{name}},
		"used id":       {ID: "used", Document: []byte(`{}`), Things: []string{name}},
		"bad id":        {ID: "a/b", Document: []byte(`{}`), Things: []string{name}},
	} {
		if _, err := sim.CreateJob(j); err == nil {
			t.Errorf("%s: accepted", about)
		}
	}
}
