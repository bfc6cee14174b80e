package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// ServiceName is what `nats micro ls` shows.
const ServiceName = "fleetbridge"

// maxRequests is how many requests may be in work at once; each may hold its program's payload and
// wait for the cloud. Beyond it the answer is 503.
const maxRequests = 1024

// Service runs requests beside each other.
type Service struct {
	nc       *nats.Conn
	subjects mapping.Subjects
	handler  bridge.RequestHandler
	micro    micro.Service
	audience *audience
	slots    chan struct{}
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// Serve answers requests on {prefix}.req.… with h until it is closed.
func Serve(nc *nats.Conn, subjects mapping.Subjects, h bridge.RequestHandler, version string) (*Service, error) {
	s := &Service{nc: nc, subjects: subjects, handler: h, slots: make(chan struct{}, maxRequests)}
	if err := s.start(version); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Service) start(version string) (err error) {
	if s.audience, err = newAudience(s.nc); err != nil {
		return fmt.Errorf("request service: %w", err)
	}
	s.micro, err = micro.AddService(s.nc, micro.Config{
		Name: ServiceName, Version: semver(version), Description: "EMQX Fleets for the programs of this gateway",
		Metadata: map[string]string{"prefix": s.subjects.Prefix()},
	})
	if err != nil {
		s.audience.close()
		return fmt.Errorf("request service: %w", err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for _, e := range endpoints(s.subjects) {
		handler := micro.HandlerFunc(func(r micro.Request) { s.serve(r, e.shadowGet) })
		err := s.micro.AddEndpoint(e.name, handler, micro.WithEndpointSubject(e.subject),
			micro.WithEndpointMetadata(map[string]string{"channel": e.channel, "description": e.about}))
		if err != nil {
			_ = s.Close()
			return fmt.Errorf("request service: %s: %w", e.name, err)
		}
	}
	return s.nc.FlushTimeout(apiTimeout)
}

type endpoint struct {
	name, subject, channel, about string
	shadowGet                     bool
}

// endpoints has one for every upward route, and one more.
func endpoints(subjects mapping.Subjects) []endpoint {
	var out []endpoint
	for _, r := range mapping.Routes() {
		if r.Direction == mapping.Up {
			channel := string(r.Channel)
			out = append(out, endpoint{name: strings.ReplaceAll(channel, ".", "-"), subject: subjects.Service(&r), channel: channel, about: r.About})
		}
	}
	return append(out, endpoint{name: strings.ReplaceAll(mapping.ShadowGet, ".", "-"), channel: mapping.ShadowGet, shadowGet: true,
		subject: subjects.EveryShadowGet(), about: "the shadow document"})
}

var semverPattern = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// semver makes a version that the convention takes of one that may be "v1.2.3" or "dev".
func semver(version string) string {
	if v := strings.TrimPrefix(version, "v"); semverPattern.MatchString(v) {
		return v
	}
	return "0.0.0"
}

// Drain takes no new requests and waits for those in work, until ctx ends.
func (s *Service) Drain(ctx context.Context) {
	_ = s.micro.Stop() // Close tells
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Close takes no new requests, ends the context of those in work, and waits for them.
func (s *Service) Close() error {
	err := s.micro.Stop()
	s.cancel()
	s.running.Wait()
	s.audience.close()
	if errors.Is(err, nats.ErrConnectionClosed) {
		return nil
	}
	return err
}

// serve takes one request off the subscription's goroutine. What it answers itself is not among the
// service's counted errors: the library counts when this function returns.
func (s *Service) serve(r micro.Request, shadowGet bool) {
	if r.Reply() == "" {
		return // nobody would hear the answer; up subjects are there for that
	}
	request, err := s.parse(r, shadowGet)
	if err != nil {
		s.respond(r.Reply(), bridge.Response{}, err)
		return
	}
	select {
	case s.slots <- struct{}{}:
	default:
		s.respond(r.Reply(), bridge.Response{}, &bridge.RequestError{Code: bridge.StatusOffline,
			Message: fmt.Sprintf("busy: %d requests are in work, try again later", cap(s.slots))})
		return
	}
	s.running.Go(func() {
		defer func() { <-s.slots }()
		response, err := s.handler.Handle(s.ctx, request)
		if response.Unheard == nil {
			s.respond(r.Reply(), response, err)
		} else if !s.audience.hears(s.ctx, s.answer(r.Reply(), response, err)) {
			response.Unheard(s.ctx)
		}
	})
}

// parse reads subject and headers; its errors are *bridge.RequestError.
func (s *Service) parse(r micro.Request, shadowGet bool) (bridge.Request, error) {
	h := nats.Header(r.Headers())
	out := bridge.Request{ShadowGet: shadowGet, Payload: r.Data(), Worker: header(h, HeaderWorker), Trace: traceOf(h)}
	if shadowGet {
		thing, err := s.subjects.ParseShadowGet(r.Subject())
		if err != nil {
			return out, badRequest("%v", err)
		}
		out.Thing = thing
	} else {
		_, address, err := s.subjects.Parse(r.Subject())
		if err != nil {
			return out, badRequest("%v", err)
		}
		out.Address, out.Thing = address, address.Thing
	}
	if text := header(h, HeaderTimeout); text != "" {
		timeout, err := time.ParseDuration(text)
		if err != nil || timeout <= 0 {
			return out, badRequest("header %s: %q is no positive duration, write for example 5s", HeaderTimeout, text)
		}
		out.Timeout = timeout
	}
	return out, nil
}

func badRequest(format string, args ...any) error {
	return &bridge.RequestError{Code: bridge.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

// respond sends the answer. One that can't be sent at all is lost with the connection, and so is the
// program that waits for it.
func (s *Service) respond(reply string, response bridge.Response, err error) {
	_ = s.nc.PublishMsg(s.answer(reply, response, err))
}

// answer spells a response. One that NATS can't carry becomes an error.
func (s *Service) answer(reply string, response bridge.Response, err error) *nats.Msg {
	m := &nats.Msg{Subject: reply, Data: response.Payload, Header: nats.Header{}}
	for k, v := range response.Header {
		m.Header.Set(k, oneLine(v, maxLine))
	}
	if n := size(m); err == nil && int64(n) > s.nc.MaxPayload() {
		err = &bridge.RequestError{Code: internalError, Message: fmt.Sprintf("the answer has %d bytes, NATS takes %d", n, s.nc.MaxPayload())}
	}
	if err != nil {
		m.Data, m.Header = errorAnswer(err)
	}
	setTrace(m.Header, response.Trace)
	return m
}

const internalError = 500

// errorAnswer spells an error by the NATS service convention.
func errorAnswer(err error) ([]byte, nats.Header) {
	answer := bridge.RequestError{Code: internalError, Message: err.Error()}
	if known := (*bridge.RequestError)(nil); errors.As(err, &known) {
		answer = *known
	}
	text := oneLine(answer.Message, maxErrorText)
	if text == "" {
		text = "error " + strconv.Itoa(answer.Code)
	}
	h := nats.Header{}
	h.Set(micro.ErrorCodeHeader, strconv.Itoa(answer.Code))
	h.Set(micro.ErrorHeader, text)
	body, encodeErr := json.Marshal(answer)
	if encodeErr != nil {
		body = nil
	}
	return body, h
}
