package cloud

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// maxDocument is the largest shadow document that is read, in bytes. No source names a limit; the
// broker's largest message is as long.
const maxDocument = 1 << 20

// APIConfig says where the Fleets HTTP API is.
type APIConfig struct {
	URL         *url.URL // the API endpoint of the deployment; what follows the host is kept
	Key, Secret string
	// TLS is asked before each request; when it returns another configuration, connections are made anew.
	// nil: the system's roots.
	TLS     func() (*tls.Config, error)
	Timeout time.Duration // of one request; default 10 s
	// Clock, when set, is called with what the API's clock showed when this one's showed ours, to the second. It must
	// not block.
	Clock func(theirs, ours time.Time)
}

// API is the Fleets HTTP API, as far as a gateway needs it.
type API struct {
	base        string
	key, secret string
	timeout     time.Duration
	tls         func() (*tls.Config, error)
	clock       func(theirs, ours time.Time)

	mu     sync.Mutex
	client *http.Client
	config *tls.Config // that client has
	later  *laterThan  // nil: it may be asked
}

// laterThan is a pause that the API has asked for.
type laterThan struct {
	over  time.Time
	cause error
}

// NewAPI prepares a client. Nothing is opened before the first request.
func NewAPI(cfg APIConfig) *API {
	or(&cfg.Timeout, 10*time.Second)
	base := url.URL{Scheme: cfg.URL.Scheme, Host: cfg.URL.Host, Path: cfg.URL.Path, RawPath: cfg.URL.RawPath}
	a := &API{base: strings.TrimRight(base.String(), "/"), key: cfg.Key, secret: cfg.Secret, timeout: cfg.Timeout, tls: cfg.TLS, clock: cfg.Clock}
	if a.clock == nil {
		a.clock = func(time.Time, time.Time) {}
	}
	if a.tls == nil || cfg.URL.Scheme != "https" {
		a.tls = func() (*tls.Config, error) { return nil, nil }
	}
	a.client = newClient(nil)
	return a
}

func newClient(config *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			// No TCP keep-alive: what is idle is closed after 30 s, and probes cost as much as the link asks for.
			DialContext: (&net.Dialer{KeepAlive: -1}).DialContext,
			Proxy:       http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: stay,
	}
}

// current is the client for the TLS files as they are now.
func (a *API) current() (*http.Client, error) {
	config, err := a.tls()
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if config != a.config {
		a.client.CloseIdleConnections() // those in use end with their requests
		a.client, a.config = newClient(config), config
	}
	return a.client, nil
}

// Close closes idle connections.
func (a *API) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.client.CloseIdleConnections()
}

// stay follows redirects within the host only: the key opens the whole deployment.
func stay(next *http.Request, before []*http.Request) error {
	first := before[0].URL
	if next.URL.Scheme != first.Scheme || next.URL.Host != first.Host {
		return fmt.Errorf("it redirects to %s://%s, which is not followed: set fleets.url to it if that is right", next.URL.Scheme, next.URL.Host)
	}
	if len(before) > 3 {
		return errors.New("it redirects in a loop")
	}
	return nil
}

// Shadow implements bridge.ShadowAPI. The document is returned as it was received, after a check that
// it is a JSON object. Nothing is retried here, and while the API has asked for a pause nothing is sent. An error is one
// line of bounded length without the login, whatever the server says: programs get it, too.
func (a *API) Shadow(ctx context.Context, t mapping.Thing) ([]byte, error) {
	body, err := a.shadow(ctx, t)
	if err != nil {
		return nil, &fitError{a.fit(err.Error()), err}
	}
	return body, nil
}

func (a *API) shadow(ctx context.Context, t mapping.Thing) ([]byte, error) {
	if err := a.paused(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	response, body, err := a.get(ctx, "/api/v1/thing-datas/"+segment(string(t))+"/shadow")
	switch {
	case response == nil:
		return nil, err
	case response.StatusCode != http.StatusOK:
		return nil, a.retryLater(response, a.refusal(t, response.StatusCode, body))
	}
	return a.document(fmt.Sprintf("shadow of %q", t), response, body, err)
}

// document is the body of an answer, if it is a JSON object that may be passed on; err is that of reading it.
func (a *API) document(what string, response *http.Response, body []byte, err error) ([]byte, error) {
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", what, err)
	case len(body) > maxDocument:
		return nil, fmt.Errorf("%s: larger than %d bytes", what, maxDocument)
	case !isObject(body):
		return nil, fmt.Errorf("%s: the answer is no JSON object%s; is fleets.url the API endpoint, and does the network ask for a login?", what, a.page(response, body))
	case a.repeats(string(body)):
		return nil, fmt.Errorf("%s: the answer has the login of fleets.api_key in it, so it is not passed on; look at what answers at fleets.url", what)
	}
	return body, nil
}

// get asks for a path. Without a response there is an error; with one, there may be one of reading its body.
func (a *API) get(ctx context.Context, path string) (*http.Response, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+path, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("fleets.url: %w", err)
	}
	request.SetBasicAuth(a.key, a.secret)
	request.Header.Set("Accept", "application/json")
	client, err := a.current()
	if err != nil {
		return nil, nil, fmt.Errorf("fleets.tls.%w", err)
	}
	asked := time.Now()
	response, err := client.Do(request)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, nil, fmt.Errorf("fleets.url: no answer within %v: %w", a.timeout, err)
		}
		return nil, nil, fmt.Errorf("fleets.url: %w", withMend(err, "fleets.tls"))
	}
	defer response.Body.Close()
	a.tellTime(response, asked)
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	return response, body, err
}

// tellTime reads the API's clock, which is cut to whole seconds, unless the answer was so slow that it says little.
func (a *API) tellTime(r *http.Response, asked time.Time) {
	took := time.Since(asked)
	theirs, err := http.ParseTime(r.Header.Get("Date"))
	if err == nil && took < clockPatience && r.Header.Get("Age") == "" {
		a.clock(theirs.Add(500*time.Millisecond), asked.Add(took/2).Round(0))
	}
}

// clockPatience is how long an answer may take whose time is believed.
const clockPatience = 4 * time.Second

// page describes what came instead of JSON: a captive portal's login, most often.
func (a *API) page(r *http.Response, body []byte) string {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	out := ""
	if kind != "" {
		out = " but " + printable(a.hide(kind))
	}
	lower := bytes.ToLower(body)
	if from := bytes.Index(lower, []byte("<title>")); from >= 0 {
		if to := bytes.Index(lower[from:], []byte("</title>")); to >= 0 {
			out += ", a page called \"" + printable(a.hide(strings.TrimSpace(string(body[from+len("<title>"):from+to])))) + "\""
		}
	}
	return out
}

// refusal makes an error of any status but 200.
func (a *API) refusal(t mapping.Thing, status int, body []byte) error {
	if status == http.StatusNotFound {
		return fmt.Errorf("thing %q is not registered in Fleets, or fleets.url is not the API endpoint: %w", t, bridge.ErrNotFound)
	}
	return a.failure(fmt.Sprintf("shadow of %q", t), "GET /api/v1/thing-datas", status, body)
}

// failure makes an error of any status but 200 and 404.
func (a *API) failure(what, permission string, status int, body []byte) error {
	detail := a.problem(body)
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("HTTP status %d: check fleets.api_key and its secret; the key needs the permission %q%s", status, permission, detail)
	}
	return fmt.Errorf("%s: HTTP status %d %s%s", what, status, http.StatusText(status), detail)
}

// problem takes the text out of an error body, shortened, printable and without the secret.
func (a *API) problem(body []byte) string {
	var p struct{ Detail, Message, Title string }
	_ = json.Unmarshal(body, &p) // fields of other types are left out
	for _, text := range []string{p.Detail, p.Message, p.Title} {
		if text == "" {
			continue
		}
		return ": " + printable(a.hide(text))
	}
	return ""
}

// printable makes a stranger's text fit for one line.
func printable(text string) string { return shorten(printed(text)) }

func printed(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

func isObject(b []byte) bool {
	start := bytes.TrimLeft(b, " \t\r\n")
	return len(start) > 0 && start[0] == '{' && json.Valid(start)
}

// segment spells a name as one segment of a path. Dots are escaped where the segment would mean a
// directory.
func segment(name string) string {
	if name == "." || name == ".." {
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return url.PathEscape(name)
}

var _ bridge.ShadowAPI = (*API)(nil)
