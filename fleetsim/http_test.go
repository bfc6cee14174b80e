package fleetsim_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/fleetsim"
)

const key, secret = "ak_test", "s:e:c"

type api struct {
	t      *testing.T
	client *http.Client
	base   string
}

func newAPI(t *testing.T, sim *fleetsim.Sim) api {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return api{t, &http.Client{Transport: transport}, sim.HTTPURL()}
}

func (a api) request(ctx context.Context, method, path, body string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, a.base+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	r.SetBasicAuth(key, secret)
	return a.client.Do(r)
}

func (a api) do(method, path, body string, status int) gjson.Result {
	a.t.Helper()
	r, err := a.request(deadline(a.t), method, path, body)
	if err != nil {
		a.t.Fatal(err)
	}
	defer r.Body.Close()
	b := must(io.ReadAll(r.Body))(a.t)
	if r.StatusCode != status {
		a.t.Fatalf("%s %s: %s, want %d: %s", method, path, r.Status, status, b)
	}
	if want := map[bool]string{false: "application/json", true: "application/problem+json"}[status >= 400]; r.Header.Get("Content-Type") != want {
		a.t.Errorf("%s %s: content type %q, want %q", method, path, r.Header.Get("Content-Type"), want)
	}
	if status >= 400 && (gjson.GetBytes(b, "status").Int() != int64(status) || gjson.GetBytes(b, "title").String() == "" || gjson.GetBytes(b, "detail").String() == "") {
		a.t.Errorf("%s %s: problem %s", method, path, b)
	}
	return gjson.ParseBytes(b)
}

func startAPI(t *testing.T, o fleetsim.Options) (*fleetsim.Sim, api) {
	o.APIKey, o.APISecret = key, secret
	sim := start(t, o)
	return sim, newAPI(t, sim)
}

func TestHTTPShadow(t *testing.T) {
	odd := "ha/ll"
	sim, a := startAPI(t, fleetsim.Options{Things: []string{name, "com.acme pump%2F é?"}})
	wantFields(t, a.do("GET", "/thing-datas/pump-07/shadow", "", 200), map[string]string{"reported": "null", "desired": "null", "delta": "null", "version": "0", "updatedAt": ""})
	a.do("GET", "/thing-datas/"+url.PathEscape("com.acme pump%2F é?")+"/shadow", "", 200)
	a.do("GET", "/thing-datas/"+url.PathEscape(odd)+"/shadow", "", 404)

	things := a.do("GET", "/things", "", 200)
	id := things.Get(`items.#(name=="pump-07").id`).String()
	patched := a.do("PATCH", "/things/"+id+"/shadow", `{"desired":{"rpm":1500.00,"s":"<&>"}}`, 200)
	wantFields(t, patched, map[string]string{"desired": `{"rpm":1500.00,"s":"<&>"}`, "delta": `{"rpm":1500.00,"s":"<&>"}`, "version": "1"})
	a.do("PATCH", "/things/pump-07/shadow", `{"desired":{"s":null}}`, 200)
	wantFields(t, a.do("POST", "/thing-datas/shadow/reported", `{"thingName":"pump-07","state":{"reported":{"rpm":1}},"clientToken":"c","version":2}`, 200), map[string]string{"version": "3", "clientToken": `"c"`})
	a.do("POST", "/thing-datas/shadow/reported", `{"thingName":"pump-07","state":{"reported":{"rpm":2}},"version":2}`, 409)
	a.do("POST", "/thing-datas/shadow/reported", `{"thingName":"pump-07","state":{}}`, 422)
	a.do("POST", "/thing-datas/shadow/reported", `{"thingName":"nobody","state":{"reported":{}}}`, 404)
	a.do("POST", "/thing-datas/shadow/reported", `{`, 400)
	got := a.do("GET", "/thing-datas/pump-07/shadow", "", 200)
	wantFields(t, got, map[string]string{"reported": `{"rpm":1}`, "desired": `{"rpm":1500.00}`, "delta": `{"rpm":1500.00}`, "version": "3"})
	if _, err := time.Parse(time.RFC3339, got.Get("updatedAt").String()); err != nil {
		t.Error(err)
	}
	wantFields(t, a.do("DELETE", "/things/pump-07/shadow", "", 200), map[string]string{"desired": "null", "reported": `{"rpm":1}`, "version": "4"})
	a.do("PATCH", "/things/pump-07/shadow", `{"desired":5}`, 422)
	a.do("PATCH", "/things/nobody/shadow", `{"desired":{}}`, 404)
	a.do("PUT", "/things/pump-07/shadow", `{}`, 404)
	if n := len(must(sim.WaitRequests(deadline(t), "GET", "/api/v1/thing-datas/pump-07/", 2))(t)); n != 2 {
		t.Errorf("%d requests", n)
	}
}

func TestThingTypes(t *testing.T) {
	sim := fleetsim.Start(t, fleetsim.Options{APIKey: key, APISecret: secret})
	a := newAPI(t, sim)
	a.do("GET", "/thing-types/com.acme.pump", "", 404)
	made := a.do("POST", "/thing-types", `{"name":"com.acme.pump","schema":{"properties":{"rpm":{"type":"int","max":3.0}}}}`, 201)
	wantFields(t, made, map[string]string{"name": `"com.acme.pump"`, "version": `"1.0.0"`, "tags": "[]"})
	a.do("POST", "/thing-types", `{"name":"com.acme.pump"}`, 409)
	a.do("POST", "/thing-types", `{"schema":{}}`, 422)
	a.do("POST", "/thing-types", `{"name":"x","schema":[]}`, 422)
	for _, by := range []string{"com.acme.pump", made.Get("id").String()} {
		wantFields(t, a.do("GET", "/thing-types/"+by, "", 200), map[string]string{"schema": `{"properties":{"rpm":{"type":"int","max":3.0}}}`})
	}
	a.do("PUT", "/thing-types/com.acme.pump", `{"name":"other"}`, 422)
	a.do("PUT", "/thing-types/com.acme.pump", `{"name":"com.acme.pump","version":"1.1.0","tags":["x"],"schema":{"properties":{}}}`, 200)
	got := a.do("GET", "/thing-types/com.acme.pump", "", 200)
	wantFields(t, got, map[string]string{"id": made.Get("id").Raw, "version": `"1.1.0"`, "tags": `["x"]`, "schema": `{"properties":{}}`})
}

func TestHTTPThings(t *testing.T) {
	_, a := startAPI(t, fleetsim.Options{})
	wantFields(t, a.do("POST", "/things", `{"name":"x","mqttClientId":"c"}`, 201), map[string]string{"name": `"x"`, "mqttClientId": `"c"`})
	a.do("POST", "/things", `{"name":"x"}`, 409)
	a.do("POST", "/things", `{"name":"x/y"}`, 422)
	wantFields(t, a.do("GET", "/things", "", 200), map[string]string{"items.#.name": `["pump-07","x"]`, "total": "2"})
	a.do("POST", "/thing-datas/events", `{"thingName":"x","eventType":"e","severity":"info","data":{"n":1.0}}`, 200)
	a.do("POST", "/thing-datas/events", `{"thingName":"x","eventType":"e","severity":"fatal"}`, 422)
	wantFields(t, a.do("GET", "/things/x/events", "", 200), map[string]string{"items.#.eventType": `["e"]`, "items.0.data": `{"n":1.0}`})
	a.do("GET", "/things/nobody/events", "", 404)
}

func TestHTTPCommand(t *testing.T) {
	sim, a := startAPI(t, fleetsim.Options{})
	d := newDevice(t, sim.BrokerURL())
	sent := a.do("POST", "/commands", `{"thingName":"pump-07","action":"purge","params":{"sec":1.0},"ttl":30}`, 201)
	id := sent.Get("id").String()
	wantFields(t, d.receive(id+"/request"), map[string]string{"params": `{"sec":1.0}`, "ttl": "30"})
	wantFields(t, a.do("GET", "/commands/"+id, "", 200), map[string]string{"status": `"SENT"`})
	a.do("POST", "/thing-datas/command/response", `{"thingName":"pump-07","executionId":"`+id+`","status":"SUCCEEDED","result":{"a":1}}`, 200)
	wantFields(t, a.do("GET", "/commands/"+id, "", 200), map[string]string{"status": `"SUCCEEDED"`, "result": `{"a":1}`})
	a.do("POST", "/thing-datas/command/response", `{"thingName":"pump-07","executionId":"none","status":"SUCCEEDED"}`, 404)
	a.do("POST", "/commands", `{"thingName":"nobody","action":"purge"}`, 404)
	a.do("POST", "/commands", `{"thingName":"pump-07"}`, 422)
	a.do("POST", "/commands", `{"thingName":"pump-07","action":"a","ttl":1.5}`, 422)
	a.do("GET", "/commands/none", "", 404)
}

func TestHTTPJob(t *testing.T) {
	sim, a := startAPI(t, fleetsim.Options{})
	d := newDevice(t, sim.BrokerURL())
	job := a.do("POST", "/jobs", `{"description":"d","targets":{"thingNames":["pump-07"]},"document":{"v":1.50}}`, 201).Get("id").String()
	d.receive("jobs/notify")
	wantFields(t, a.do("POST", "/thing-datas/jobs/get", `{"thingName":"pump-07","clientToken":"t"}`, 200), map[string]string{"queuedJobs.0.jobId": `"` + job + `"`, "clientToken": `"t"`})
	wantFields(t, a.do("POST", "/thing-datas/jobs/start-next", `{"thingName":"pump-07"}`, 200), map[string]string{"execution.jobDocument": `{"v":1.50}`})
	wantFields(t, a.do("POST", "/thing-datas/jobs/"+job+"/get", `{"thingName":"pump-07"}`, 200), map[string]string{"execution.status": `"IN_PROGRESS"`})
	refused := a.do("POST", "/thing-datas/jobs/"+job+"/update", `{"thingName":"pump-07","status":"SUCCEEDED","expectedVersion":9}`, 409)
	wantFields(t, refused, map[string]string{"code": `"VersionMismatch"`, "executionState.status": `"IN_PROGRESS"`})
	a.do("POST", "/thing-datas/jobs/"+job+"/update", `{"thingName":"pump-07","status":"SUCCEEDED"}`, 200)
	wantFields(t, a.do("GET", "/jobs/"+job+"/executions", "", 200), map[string]string{"items.0.status": `"SUCCEEDED"`, "total": "1"})
	a.do("POST", "/jobs", `{"targets":{"thingNames":["pump-07"]},"document":{},"jobId":"j2"}`, 201)
	a.do("POST", "/jobs/j2/cancel", ``, 200)
	must(sim.WaitExecution(deadline(t), "j2", name, fleetsim.Canceled))(t)
	a.do("POST", "/jobs/none/cancel", ``, 404)
	a.do("GET", "/jobs/none/executions", "", 404)
	a.do("POST", "/jobs", `{"targets":{},"document":{}}`, 422)
	a.do("POST", "/thing-datas/jobs/get", `{}`, 422)
}

func TestHTTPFaults(t *testing.T) {
	sim, a := startAPI(t, fleetsim.Options{})
	const path = "/thing-datas/pump-07/shadow"

	r, err := http.Get(sim.HTTPURL() + "/api/v1" + path)
	if err != nil || r.StatusCode != 401 || r.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("without a key: %v, %v", r, err)
	}
	sim.SetHTTPFault(&fleetsim.HTTPFault{Status: 401, Times: 1})
	a.do("GET", path, "", 401)
	a.do("GET", path, "", 200)
	sim.SetHTTPFault(&fleetsim.HTTPFault{Path: "/api/v1/things", Status: 503})
	a.do("GET", path, "", 200)
	a.do("GET", "/things", "", 503)
	sim.SetHTTPFault(&fleetsim.HTTPFault{Body: []byte("[]")})
	if got := a.do("GET", path, "", 200); got.Raw != "[]" {
		t.Errorf("wrong body: %s", got.Raw)
	}
	sim.SetHTTPFault(&fleetsim.HTTPFault{Down: true})
	if r, err := a.request(deadline(t), "GET", path, ""); err == nil {
		t.Errorf("down: %s", r.Status)
	}
	sim.SetHTTPFault(&fleetsim.HTTPFault{Delay: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r, err := a.request(ctx, "GET", path, ""); err == nil {
		t.Errorf("slow: %s", r.Status)
	}
	sim.SetHTTPFault(nil)
	a.do("GET", path, "", 200)
	if r, err := a.request(deadline(t), "POST", "/things", string(bytes.Repeat([]byte(" "), 2<<20))); err != nil || r.StatusCode != 413 {
		t.Errorf("a huge body: %v, %v", r, err)
	}
}

func TestHTTPS(t *testing.T) {
	certificate := must(fleetsim.NewCertificate())(t)
	sim, a := startAPI(t, fleetsim.Options{HTTPTLS: certificate})
	a.client.Transport.(*http.Transport).TLSClientConfig = certificate.Client()
	a.do("GET", "/things", "", 200)
	if !strings.HasPrefix(sim.HTTPURL(), "https://") {
		t.Error(sim.HTTPURL())
	}
}

// Without a key anybody on the machine may ask, but no web page, whatever its name leads to.
func TestHTTPOfOtherSites(t *testing.T) {
	sim := start(t, fleetsim.Options{})
	a := newAPI(t, sim)
	ask := func(method, host string, header ...string) int {
		r := must(http.NewRequestWithContext(deadline(t), method, a.base+"/api/v1/things", strings.NewReader(`{"name":"x"}`)))(t)
		r.Host = host
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		answer := must(a.client.Do(r))(t)
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	for host, want := range map[string]int{"": 200, "localhost:1": 200, "[::1]:1": 200, "sim.localhost": 200, "evil.example": 403, "127.0.0.1.evil.example:80": 403} {
		if got := ask("GET", host); got != want {
			t.Errorf("host %q: %d, want %d", host, got, want)
		}
	}
	if got := ask("POST", "", "Origin", "http://evil.example"); got != 403 {
		t.Errorf("a page of another site: %d", got)
	}
	if got := ask("POST", "", "Sec-Fetch-Site", "cross-site"); got != 403 {
		t.Errorf("a page of another site: %d", got)
	}
}
