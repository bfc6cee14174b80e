package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"fleetbridge/bridge/gateway"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// Setup says which bridge to run.
type Setup struct {
	// Name of the bridge, where there are several; the load engine doesn't look at it.
	Name string `json:"name,omitempty"`
	// Config is a configuration file to start from; empty: the defaults.
	Config   string          `json:"config,omitempty"`
	Broker   string          `json:"broker,omitempty"` // URL, in the place of the configuration's
	Things   []mapping.Thing `json:"things"`
	StoreDir string          `json:"store_dir"`
	Sync     string          `json:"sync,omitempty"` // in the place of the configuration's
	// NATS are the servers of a cluster, of which the bridge has Shards with others; empty: the embedded one.
	NATS   string `json:"nats,omitempty"`
	ID     string `json:"id,omitempty"`
	Shards int    `json:"shards,omitempty"`
}

// Configuration is the gateway's for a setup: as configured, but with a store of its own, on free ports,
// without users and without the Fleets HTTP API, which has no part in what is measured.
func (s Setup) Configuration() (*gateway.Config, error) {
	c := gateway.Default()
	if s.Config != "" {
		var err error
		if c, err = gateway.Load(s.Config, os.LookupEnv); err != nil {
			return nil, err
		}
		if c.NATS.URL != "" {
			return nil, errors.New("nats.url: the measurement needs streams of its own and can't share your server's; it measures the embedded server only, so leave nats.url out in a copy of the configuration")
		}
	}
	if s.Broker != "" {
		c.MQTT.Server = []string{s.Broker}
	}
	if s.Sync != "" {
		if err := c.NATS.Embedded.Sync.UnmarshalText([]byte(s.Sync)); err != nil {
			return nil, fmt.Errorf("sync: %w", err)
		}
	}
	logins := map[string]gateway.Thing{}
	for _, t := range c.Things {
		logins[t.Name] = t
	}
	c.Things = nil
	for _, t := range s.Things {
		login, ok := logins[string(t)]
		if !ok {
			login = gateway.Thing{Name: string(t), ClientID: string(t)}
		}
		c.Things = append(c.Things, login)
	}
	c.NATS.Embedded.Listen, c.NATS.Embedded.StoreDir = "127.0.0.1:0", s.StoreDir
	c.NATS.Embedded.TLS = gateway.ListenTLS{}
	c.HTTP.Listen = "127.0.0.1:0"
	c.Local, c.Fleets = gateway.Local{}, gateway.Fleets{}
	if s.NATS != "" {
		c.NATS.URL, c.NATS.Replicas = gateway.NATSURL(s.NATS), 3
		c.Cluster.ID, c.Cluster.Shards = s.ID, s.Shards
	}
	return c, nil
}

// Contender is a running bridge.
type Contender interface {
	// URL is where programs connect.
	URL() string
	// HTTP is where health and metrics are; empty: nowhere.
	HTTP() string
	Close() error
}

// StartGateway runs fleetbridge in this process and returns when every Thing is ready.
func StartGateway(ctx context.Context, s Setup, log *slog.Logger) (Contender, error) {
	c, err := s.Configuration()
	if err != nil {
		return nil, err
	}
	gw, err := gateway.New(c, gateway.ReadBuild("", ""), log)
	if err != nil {
		return nil, err
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	r := &runningGateway{gw, stop, make(chan error, 1)}
	go func() { r.ended <- gw.Run(work) }()
	select {
	case <-gw.Listening():
	case err := <-r.ended:
		stop()
		return nil, errors.Join(errors.New("the bridge ended"), err)
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), r.Close())
	}
	if err := awaitReady(ctx, r.HTTP()); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

type runningGateway struct {
	*gateway.Gateway
	stop  func()
	ended chan error
}

func (r *runningGateway) URL() string  { return r.NATSURL() }
func (r *runningGateway) HTTP() string { return "http://" + r.HTTPAddr() }

func (r *runningGateway) Close() error {
	r.stop()
	return <-r.ended
}

// readyPause is how long to wait between two questions whether the bridge is ready.
const readyPause = 50 * time.Millisecond

// awaitReady asks until the bridge is ready.
func awaitReady(ctx context.Context, base string) error {
	for {
		status, body, err := get(ctx, base+"/readyz")
		if err == nil && status == http.StatusOK {
			return nil
		}
		if flow.Sleep(ctx, readyPause) != nil {
			return fmt.Errorf("the bridge is not ready: %.500s: %w", strings.TrimSpace(string(body)), context.Cause(ctx))
		}
	}
}

func get(ctx context.Context, url string) (status int, body []byte, err error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, nil, err
	}
	defer a.Body.Close()
	body, err = io.ReadAll(a.Body)
	return a.StatusCode, body, err
}

// Delivered reads from a bridge's metrics how many messages of a channel the broker has acknowledged.
func Delivered(base string, c mapping.Channel) func(ctx context.Context) (int64, error) {
	return func(ctx context.Context) (int64, error) {
		_, body, err := get(ctx, base+"/metrics")
		if err != nil {
			return 0, err
		}
		return deliveredUp(string(body), c)
	}
}

func deliveredUp(metrics string, c mapping.Channel) (int64, error) {
	for line := range strings.Lines(metrics) {
		if !strings.HasPrefix(line, "fleetbridge_messages_total{") || !strings.Contains(line, `channel="`+string(c)+`"`) ||
			!strings.Contains(line, `direction="up"`) || !strings.Contains(line, `outcome="delivered"`) {
			continue
		}
		_, value, _ := strings.Cut(line, "} ")
		n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		return int64(n), err
	}
	return 0, fmt.Errorf("the bridge's metrics don't count delivered messages of channel %s", c)
}
