package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthcheck is what the command line asks for.
type healthcheck struct {
	config, url string
	ready       bool
	timeout     time.Duration
}

func newHealthcheck(s streams) *cobra.Command {
	var h healthcheck
	c := &cobra.Command{
		Use:   "healthcheck (--config FILE | --url URL)",
		Short: "Ask a running bridge whether it works",
		Long: "Ask a running bridge on this machine whether it works, for supervisors that can only run a program. It\n" +
			"asks /healthz, or with --ready /readyz, at http.listen of the configuration. Exit code 0: yes, 1: no, or\n" +
			"nobody answers.",
		Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			base, err := h.base(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), h.timeout)
			defer cancel()
			return h.ask(ctx, base, s.out)
		},
	}
	configFlag(c, &h.config)
	c.Flags().StringVar(&h.url, "url", "", "base `URL` of its HTTP listener, instead of --config")
	c.Flags().BoolVar(&h.ready, "ready", false, "ask whether every Thing is connected and subscribed, too")
	c.Flags().DurationVar(&h.timeout, "timeout", 5*time.Second, "how long to wait for the answer")
	return c
}

// base is the URL of the bridge's HTTP listener.
func (h healthcheck) base(c *cobra.Command) (string, error) {
	switch {
	case h.config == "" && h.url == "":
		return "", usagef("healthcheck: --config FILE or --url URL is missing")
	case h.config != "" && h.url != "":
		return "", usagef("healthcheck: --config and --url are both given, keep one")
	case h.timeout <= 0:
		return "", usagef("healthcheck: --timeout %s: must be more than 0", h.timeout)
	}
	if h.url != "" {
		u, err := url.Parse(h.url)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return "", usagef("healthcheck: --url %q: write http://host:port", h.url)
		}
		return strings.TrimSuffix(h.url, "/"), nil
	}
	cfg, err := loadConfig(c, h.config)
	if err != nil {
		return "", err
	}
	if cfg.HTTP.Listen == "" {
		return "", fmt.Errorf("healthcheck: http.listen is empty, so nobody can be asked; give it an address")
	}
	return cfg.HTTP.URL(), nil
}

// ask prints the answer, and fails when it is not 200.
func (h healthcheck) ask(ctx context.Context, base string, out io.Writer) error {
	page := "/healthz"
	if h.ready {
		page = "/readyz"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+page, nil)
	if err != nil {
		return usagef("healthcheck: %s", err)
	}
	client := &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}} // on this machine
	answer, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("healthcheck: %s%s: %w", base, page, err)
	}
	text := strings.TrimSpace(string(body))
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("healthcheck: %s%s: %s: %s", base, page, answer.Status, reasons(text))
	}
	_, err = fmt.Fprintln(out, text)
	return err
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
