package console

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"fleetbridge/bridge/gateway"
)

// Console is a gateway's page and API. It implements gateway.Page.
type Console struct {
	gateway *gateway.Gateway
	log     *slog.Logger
	cloud   func(act string, body []byte) (id string, err error) // nil: the cloud is real
	logins  *logins
	words   *passwords
	wrong   wrongLogins
	guard   guard
	api     http.Handler
	static  http.Handler
	store   chan struct{}   // places for requests that read the store
	run     context.Context // ends when the bridge stops
	end     context.CancelFunc
	beat    time.Duration // how often a tail looks whether its login is good still, and says that it is there

	examination examination
}

// storeReaders is how many requests read the store at a time.
const storeReaders = 2

// New makes the console of a gateway.
func New(g *gateway.Gateway) gateway.Page { return newConsole(g) }

// NewWithCloud makes the console of a gateway whose cloud is simulated: cloud has it do something, and returns an id by which
// that can be traced, if there is one.
func NewWithCloud(g *gateway.Gateway, cloud func(act string, body []byte) (id string, err error)) gateway.Page {
	c := newConsole(g)
	c.cloud = cloud
	return c
}

func newConsole(g *gateway.Gateway) *Console {
	cfg := g.Config()
	c := &Console{gateway: g, log: g.Log(), logins: newLogins(), guard: newGuard(cfg.Console.Hosts), store: make(chan struct{}, storeReaders), beat: beatTime}
	c.words = newPasswords(func() []gateway.ConsoleUser { return g.Config().Console.Users })
	c.logins.mark = c.words.mark
	c.run, c.end = context.WithCancel(context.Background())
	c.static = newStatic()
	c.api = c.routes()
	return c
}

// Link makes a code that logs in once, within two minutes.
func (c *Console) Link(operates bool) string {
	if operates {
		return c.logins.link(operator)
	}
	return c.logins.link(viewer)
}

// Revoke ends all logins, and links that nobody has used.
func (c *Console) Revoke() {
	c.logins.revoke()
	c.log.Info("all logins of the console have ended, as somebody asked")
}

// Stop ends long answers, such as tails, and an examination.
func (c *Console) Stop() { c.end() }

// Wait returns after Stop, when an examination has ended.
func (c *Console) Wait() { c.examination.wait() }

// ServeHTTP answers every request that reaches console.listen.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	harden(w.Header())
	if refusal := c.guard.refuses(r); refusal != nil {
		c.fail(w, refusal)
		return
	}
	if r.Header.Get("Service-Worker") != "" {
		leave(w)
		return
	}
	if isAPI(r) {
		c.api.ServeHTTP(w, r)
		return
	}
	c.static.ServeHTTP(w, r)
}
