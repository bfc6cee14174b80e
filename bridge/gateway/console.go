package gateway

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Page is what is served at console.listen; package console has it.
type Page interface {
	http.Handler
	// Link makes a code that logs in once, within a short time.
	Link(operator bool) (code string)
	// Revoke ends all logins.
	Revoke()
	// Stop ends what would go on for long, and lets nothing of that begin. It does not wait.
	Stop()
	// Wait returns when what uses the gateway beside requests has ended. It comes after Stop.
	Wait()
}

// consoleListener serves the console, if there is one.
type consoleListener struct {
	mu      sync.Mutex
	console Page // nil: none is served
	server  *http.Server
	url     string
	why     error // there is none
}

// serveConsole serves people. The bridge works without.
func (g *Gateway) serveConsole() {
	p := &g.console
	p.mu.Lock()
	defer p.mu.Unlock()
	switch address := g.cfg.Console.Listen; {
	case g.Console == nil:
		p.why = errors.New("this bridge has no console")
	case address == "":
		p.why = errors.New("console.listen is empty, so there is no console; give it an address")
	default:
		shown, err := g.consoleTLS()
		if err != nil {
			p.why = err
			g.log.Warn("the console can't be served; all else works", "error", err)
			return
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			p.why = fmt.Errorf("console.listen %s: %w; set console.listen to a free port, or leave it empty for no console", address, err)
			if errors.Is(err, syscall.EADDRINUSE) && address == Default().Console.Listen {
				g.log.Info("the console is not served, because its usual port is taken, perhaps by another bridge; set console.listen to a free port, or leave it empty", "console.listen", address)
				return
			}
			g.log.Warn("the console can't be served; all else works", "console.listen", address, "error", err)
			return
		}
		p.console = g.Console(g)
		p.url, p.server = HTTP{Listen: l.Addr().String()}.URL(), newServer(p.console)
		if shown != nil {
			p.url, l = g.cfg.Console.secureURL(l.Addr().String()), tls.NewListener(l, shown)
		}
		p.server.ErrorLog = slog.NewLogLogger(g.log.Handler(), slog.LevelDebug) // what strangers do wrong
		go func() { _ = p.server.Serve(l) }()                                   // ends with stop or close
		g.log.Info("the console is served; fleetbridge console prints a link that logs in", "url", p.url)
	}
}

// consoleTLS is what the listener shows; nil: it speaks no TLS.
func (g *Gateway) consoleTLS() (*tls.Config, error) {
	if g.cfg.Console.TLS == (ListenTLS{}) {
		return nil, nil
	}
	files := &tlsFiles{names: g.cfg.Console.TLS.files(), build: serverConfig, log: g.log}
	if _, err := files.config(); err != nil {
		return nil, fmt.Errorf("console.tls.%w", err)
	}
	return files.server(), nil
}

// secureURL is where a browser finds the console at an address. The certificate has a name rather than an address, and a name
// is known only from hosts; it leads to this machine's own addresses, not to loopback.
func (c Console) secureURL(address string) string {
	host, port := hostPort(address)
	if len(c.Hosts) > 0 && !loopback(host) {
		address = net.JoinHostPort(c.Hosts[0], port)
	}
	return "https" + strings.TrimPrefix(HTTP{Listen: address}.URL(), "http")
}

// ConsoleLink makes a link that logs into the console, once and within two minutes. An error says why there is none.
func (g *Gateway) ConsoleLink(operator bool) (string, error) { return g.console.link(operator) }

func (p *consoleListener) link(operator bool) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.console == nil {
		if p.why == nil {
			return "", errStarting
		}
		return "", p.why
	}
	return p.url + "/#login=" + p.console.Link(operator), nil
}

// ask answers fleetbridge console: it makes a link, and with revoke it ends all logins before.
func (p *consoleListener) ask(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	console := p.console
	p.mu.Unlock()
	if console != nil && r.FormValue("revoke") != "" {
		console.Revoke()
	}
	link, err := p.link(r.FormValue("role") == "operator")
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	noStore(w, "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"link": link})
}

// stop ends what goes on for long, and takes nothing new. It does not wait.
func (p *consoleListener) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server == nil {
		return
	}
	p.console.Stop()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = p.server.Shutdown(ctx) // close ends what is left
	}()
}

// close ends everything, and waits for what uses the gateway.
func (p *consoleListener) close() {
	p.mu.Lock()
	console, server := p.console, p.server
	p.mu.Unlock()
	if server == nil {
		return
	}
	console.Stop()
	_ = server.Close()
	console.Wait()
}
