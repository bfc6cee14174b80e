package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// read returns what the stages of a Dockerfile say of their images. It knows what ours uses, and refuses the rest in a stage that
// begins from scratch or from such a one. COPY is build's.
func read(text string) (map[string]v1.Config, error) {
	stages := map[string]v1.Config{}
	name := ""
	for n, line := range strings.Split(strings.ReplaceAll(text, "\\\n", " "), "\n") {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		if word == "FROM" {
			from := strings.Fields(rest)
			parent, is := stages[from[0]]
			if name = from[len(from)-1]; is || from[0] == "scratch" {
				parent.ExposedPorts, parent.Volumes = maps.Clone(parent.ExposedPorts), maps.Clone(parent.Volumes)
				stages[name] = parent
			}
			continue
		}
		c, is := stages[name]
		if !is || word == "" || word[0] == '#' || word == "COPY" {
			continue
		}
		if err := instruct(&c, word, rest); err != nil {
			return nil, fmt.Errorf("instruction %d, %s %s: %w", n+1, word, rest, err)
		}
		stages[name] = c
	}
	return stages, nil
}

func instruct(c *v1.Config, word, rest string) error {
	switch word {
	case "USER":
		c.User = rest
	case "ENTRYPOINT":
		return json.Unmarshal([]byte(rest), &c.Entrypoint)
	case "CMD":
		return json.Unmarshal([]byte(rest), &c.Cmd)
	case "VOLUME":
		c.Volumes = add(c.Volumes, rest, "")
	case "EXPOSE":
		c.ExposedPorts = add(c.ExposedPorts, rest, "/tcp")
	case "HEALTHCHECK":
		return health(c, rest)
	default:
		return errors.New("it is not known here")
	}
	return nil
}

func add(set map[string]struct{}, words, end string) map[string]struct{} {
	if set == nil {
		set = map[string]struct{}{}
	}
	for _, w := range strings.Fields(words) {
		set[w+end] = struct{}{}
	}
	return set
}

func health(c *v1.Config, rest string) error {
	options, command, _ := strings.Cut(rest, "CMD ")
	h := &v1.HealthConfig{}
	for _, o := range strings.Fields(options) {
		key, value, _ := strings.Cut(o, "=")
		var err error
		switch key {
		case "--interval":
			h.Interval, err = time.ParseDuration(value)
		case "--timeout":
			h.Timeout, err = time.ParseDuration(value)
		case "--start-period":
			h.StartPeriod, err = time.ParseDuration(value)
		case "--retries":
			h.Retries, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("%s is not known here", key)
		}
		if err != nil {
			return err
		}
	}
	var words []string
	if err := json.Unmarshal([]byte(command), &words); err != nil {
		return err
	}
	h.Test = append([]string{"CMD"}, words...)
	c.Healthcheck = h
	return nil
}
