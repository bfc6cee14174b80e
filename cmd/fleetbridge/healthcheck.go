package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newHealthcheck(s streams) *cobra.Command {
	var p pages
	var ready bool
	c := &cobra.Command{
		Use:     "healthcheck [--config FILE | --url URL]",
		Example: "  fleetbridge healthcheck --ready || echo not ready",
		Short:   "Ask a running bridge whether it works",
		Long: "Ask a running bridge on this machine whether it works, for supervisors that can only run a program. It\n" +
			"asks /healthz, or with --ready /readyz, at http.listen of the configuration. Exit code 0: yes, 1: no, or\n" +
			"nobody answers.",
		Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.find(c); err != nil {
				return err
			}
			page := "/healthz"
			if ready {
				page = "/readyz"
			}
			status, body, err := p.get(c.Context(), page)
			if err != nil {
				return err
			}
			text := strings.TrimSpace(string(body))
			if status != http.StatusOK {
				return fmt.Errorf("healthcheck: %s%s: %d %s: %s", p.base, page, status, http.StatusText(status), reasons(text))
			}
			_, err = fmt.Fprintln(s.out, text)
			return err
		},
	}
	p.flags(c)
	c.Flags().BoolVar(&ready, "ready", false, "ask whether every Thing is connected and subscribed, too")
	return c
}

// pages are those that a running bridge serves at http.listen.
type pages struct {
	config, url string
	timeout     time.Duration

	command, base string
}

func (p *pages) flags(c *cobra.Command) {
	configFlag(c, &p.config)
	c.Flags().StringVar(&p.url, "url", "", "base `URL` of its HTTP listener, instead of --config")
	c.Flags().DurationVar(&p.timeout, "timeout", 5*time.Second, "how long to wait for an answer")
}

// find notes where the bridge's pages are.
func (p *pages) find(c *cobra.Command) error {
	p.command = c.Name()
	switch {
	case p.config != "" && p.url != "":
		return usagef("%s: --config and --url are both given, keep one", p.command)
	case p.timeout <= 0:
		return usagef("%s: --timeout %s: must be more than 0", p.command, p.timeout)
	}
	if p.url != "" {
		u, err := url.Parse(p.url)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return usagef("%s: --url %q: write http://host:port", p.command, p.url)
		}
		p.base = strings.TrimSuffix(p.url, "/")
		return nil
	}
	cfg, err := loadConfig(c, &p.config)
	if err != nil {
		return err
	}
	if cfg.HTTP.Listen == "" {
		return fmt.Errorf("%s: http.listen is empty, so nobody can be asked; give it an address", p.command)
	}
	p.base = cfg.HTTP.URL()
	return nil
}

// get reads one page.
func (p *pages) get(ctx context.Context, page string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+page, nil)
	if err != nil {
		return 0, nil, usagef("%s: %s", p.command, err)
	}
	client := &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}} // on this machine
	answer, err := client.Do(r)
	if err != nil {
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return 0, nil, fmt.Errorf("%s: no bridge answers at %s: %w", p.command, p.base, err)
	}
	defer answer.Body.Close()
	const most = 64 << 20
	if body, err = io.ReadAll(io.LimitReader(answer.Body, most)); err != nil {
		return 0, nil, fmt.Errorf("%s: %s%s: %w", p.command, p.base, page, err)
	}
	return answer.StatusCode, body, nil
}

// reasons shortens what /readyz says to its problems. Other text stays, on one line.
func reasons(body string) string {
	var ready struct {
		Problems []struct{ Thing, Reason string } `json:"problems"`
	}
	if json.Unmarshal([]byte(body), &ready) != nil || len(ready.Problems) == 0 {
		return strings.Join(strings.Fields(body), " ")
	}
	parts := make([]string, len(ready.Problems))
	for i, p := range ready.Problems {
		parts[i] = p.Reason
		if p.Thing != "" {
			parts[i] = p.Thing + ": " + p.Reason
		}
	}
	return strings.Join(parts, "; ")
}
