package gateway

import (
	"context"
	"net"
	"net/http"
	"runtime/pprof"
	"sync"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/storedir"
	"fleetbridge/bridge/sightings"
)

// watching shows messages to people as they pass.
type watching struct {
	bridge.Watch
	recorder *sightings.Recorder
	server   *http.Server // nil: it could not be served
	stopped  chan struct{}
	once     sync.Once
}

// privateDir makes a directory in the store directory that nobody else may enter.
func (g *Gateway) privateDir() (string, error) {
	dir := g.Config().NATS.Embedded.StoreDir
	err := storedir.Check(dir)
	if err == nil {
		err = storedir.Check(sightings.Dir(dir))
	}
	if err != nil {
		return "", err
	}
	return sightings.MakeDir(dir)
}

// serveTails serves fleetbridge tail, trace and console, and what bundle asks for, on a socket in the store directory.
// The bridge works without.
func (g *Gateway) serveTails(ctx context.Context) {
	w := &g.watch
	l, err := net.Listener(nil), error(nil)
	if _, err = g.privateDir(); err == nil {
		l, err = sightings.Listen(ctx, g.cfg.NATS.Embedded.StoreDir)
	}
	if err != nil {
		g.unserved(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("/", w.recorder.Handler(g.build.Version, w.stopped))
	mux.HandleFunc("GET /log", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(g.logText()) })
	mux.HandleFunc("GET /goroutines", func(w http.ResponseWriter, _ *http.Request) { _ = pprof.Lookup("goroutine").WriteTo(w, 1) })
	mux.HandleFunc("POST /console", g.console.ask)
	w.server = newHTTPServer(mux)
	go func() { _ = w.server.Serve(l) }() // ends with stop or close
}

func (g *Gateway) unserved(err error) {
	g.log.Info("fleetbridge tail can't be served, nor what fleetbridge trace would see live; all else works", "nats.embedded.store_dir", g.cfg.NATS.Embedded.StoreDir, "error", err)
}

// stop ends every tail, after a last line that says so, and takes no new one. It does not wait.
func (w *watching) stop() {
	w.once.Do(func() { close(w.stopped) })
	if w.server == nil {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = w.server.Shutdown(ctx) // close ends what is left
	}()
}

// close ends all.
func (w *watching) close() {
	if w.server != nil {
		_ = w.server.Close()
	}
	w.recorder.Close()
}
