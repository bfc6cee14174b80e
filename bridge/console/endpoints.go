package console

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"fleetbridge/bridge/gateway"
)

// base is where the API is.
const base = "/api/v1/"

// answerTime is how long an answer may take to be made, and each write of it.
const answerTime = 10 * time.Second

// loginBytes bounds what strangers may send.
const loginBytes = 4 << 10

// endpoint is one thing to ask for. The table of endpoints makes the mux, docs/console-api.md and the test of access.
type endpoint struct {
	method, path string // path after base
	role         role   // the least that may ask; nobody: everybody
	action       string // of console.actions, for what changes something
	query        []string
	stored       bool // it reads the store, which few do at a time
	about        string
	body, sample string // of the request and the answer, for people

	answer func(*Console, *request) (any, error)
	stream func(*Console, http.ResponseWriter, *request) error // in answer's place
}

// request is a request of somebody who may ask.
type request struct {
	*http.Request
	session session
	query
}

// endpoints is everything that the API has.
var endpoints = slices.Concat(loginEndpoints, overviewEndpoints, thingEndpoints, storedEndpoints, deadEndpoints, tailEndpoints, workshopEndpoints, cloudEndpoints, pastEndpoints, doctorEndpoints)

// routes makes the mux. Nothing reaches an endpoint but through serve.
func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	for _, e := range endpoints {
		path := base + e.path
		if strings.HasSuffix(path, "/") {
			path += "{$}"
		}
		mux.HandleFunc(e.method+" "+path, func(w http.ResponseWriter, r *http.Request) { c.serve(e, w, r) })
	}
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		c.fail(w, refuse(http.StatusNotFound, "there is no %s %s; docs/console-api.md lists what there is", clean(r.Method), clean(r.URL.Path)))
	})
	return mux
}

// serve answers a request if it may be.
func (c *Console) serve(e endpoint, w http.ResponseWriter, r *http.Request) {
	q, err := c.admit(e, w, r)
	if err != nil {
		c.fail(w, err)
		return
	}
	if e.stream != nil {
		if err := e.stream(c, w, q); err != nil {
			c.fail(w, err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	q.Request = r.WithContext(ctx)
	if e.stored {
		select {
		case c.store <- struct{}{}:
			defer func() { <-c.store }()
		case <-ctx.Done():
			c.fail(w, refuse(http.StatusServiceUnavailable, "others read the store now; ask again"))
			return
		}
	}
	out, err := e.answer(c, q)
	if err != nil {
		c.fail(w, err)
		return
	}
	c.write(w, http.StatusOK, out)
}

// admit finds out who asks, and whether he may.
func (c *Console) admit(e endpoint, w http.ResponseWriter, r *http.Request) (*request, error) {
	q := &request{Request: r}
	if e.role != nobody {
		token, given := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		var ok bool
		if q.session, ok = c.logins.session(token); !ok {
			w.Header().Set("WWW-Authenticate", "Bearer")
			if !given {
				return nil, refuse(http.StatusUnauthorized, "nobody is logged in; fleetbridge console prints a link that logs in")
			}
			return nil, refuse(http.StatusUnauthorized, "the login has ended; fleetbridge console prints a link that logs in")
		}
		gateway.Known(r.Context())
	}
	switch {
	case q.session.role < e.role:
		return nil, refuse(http.StatusForbidden, "a %s may not do that; fleetbridge console --operator prints a link for operators", q.session.role)
	case e.action != "" && !slices.Contains(c.actions(q.session), e.action):
		if e.action == actCloud {
			return nil, refuse(http.StatusForbidden, "the cloud is real; only fleetbridge demo has one to act as, and console.actions can't change that")
		}
		return nil, refuse(http.StatusForbidden, "%s is not in console.actions", e.action)
	}
	var err error
	if q.query, err = parseQuery(r.URL.RawQuery, e.query); err != nil {
		return nil, err
	}
	limit := int64(loginBytes)
	if e.role != nobody { // a payload may be twice as long as text of JSON
		limit = 2*int64(c.gateway.Config().Limits.Payload) + 64<<10
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	return q, nil
}

// actions are what somebody may do beside looking.
func (c *Console) actions(s session) []string {
	if s.role < operator {
		return []string{}
	}
	out := append([]string{}, c.gateway.Config().Console.Actions...)
	if c.cloud != nil {
		out = append(out, actCloud)
	}
	return out
}
