package services

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// maxRequests is how many requests may be in work at once; each may hold its program's payload and
// wait for the cloud. Each user (without them, each Thing) has a share of it. Beyond it the answer is 503.
const maxRequests = 1024

// Service runs requests beside each other.
type Service struct {
	nc       *nats.Conn
	answers  *wire.Answers
	subjects mapping.Subjects
	handler  bridge.RequestHandler
	micro    micro.Service
	audience *audience
	served   []string           // the endpoints' subjects
	others   *nats.Subscription // to what is no endpoint's
	mu       sync.Mutex
	slots    flow.Quota
	answered atomic.Uint64 // requests
	forwarding
	life
}

// forwarding is between the bridges of a cluster.
type forwarding struct {
	peers    Peers              // nil: all Things are here
	run      string             // this bridge's name among them
	handedOn *nats.Subscription // by other bridges; nil: there are none
}

// life is how a service ends.
type life struct {
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Config is what a Service is besides its connection and its handler.
type Config struct {
	Subjects mapping.Subjects
	Version  string // of the bridge
	Log      *slog.Logger
	// Peers are asked whose a Thing is; nil: all are this bridge's. Run is this one's name among them.
	Peers Peers
	Run   string
}

// Serve answers requests on {prefix}.req.… with h until it is closed.
func Serve(nc *nats.Conn, h bridge.RequestHandler, c Config) (*Service, error) {
	s := &Service{nc: nc, answers: wire.NewAnswers(nc, c.Log), subjects: c.Subjects, handler: h, forwarding: forwarding{peers: c.Peers, run: c.Run}, slots: flow.Quota{Limit: maxRequests}}
	if err := s.start(c.Version); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Service) start(version string) (err error) {
	if s.audience, err = newAudience(s.nc, s.answers); err != nil {
		return fmt.Errorf("request service: %w", err)
	}
	s.micro, err = micro.AddService(s.nc, micro.Config{
		Name: wire.ServiceName, Version: semver(version), Description: "EMQX Fleets for the programs of this gateway",
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
		s.served = append(s.served, e.subject)
	}
	if s.others, err = s.nc.QueueSubscribe(s.subjects.Space(mapping.SpaceReq), "others", s.stray); err != nil { // of all bridges one
		_ = s.Close()
		return fmt.Errorf("request service: %w", err)
	}
	if s.peers != nil {
		if s.handedOn, err = s.nc.Subscribe(peerSpace(s.subjects, s.run)+">", s.handed); err != nil {
			_ = s.Close()
			return fmt.Errorf("request service: %w", err)
		}
	}
	return s.nc.FlushTimeout(wire.APITimeout)
}

// stray answers a request on a subject that is no channel's: without it the program would hear that nobody is there,
// as if the bridge were down. What has an endpoint is answered there.
func (s *Service) stray(m *nats.Msg) {
	if m.Reply == "" || wire.Covered(m.Subject, s.served) {
		return
	}
	_, _, err := s.subjects.Parse(m.Subject)
	s.respond(m.Reply, bridge.Response{}, badRequest("%v; fleetbridge explain lists what there is", err))
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
	s.unsubscribe()
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
	s.unsubscribe()
	s.cancel()
	s.running.Wait()
	s.audience.close()
	if errors.Is(err, nats.ErrConnectionClosed) {
		return nil
	}
	return err
}

func (s *Service) unsubscribe() {
	for _, sub := range []*nats.Subscription{s.others, s.handedOn} {
		if sub != nil {
			_ = sub.Unsubscribe() // or the connection is closed
		}
	}
}

// serve takes one request off the subscription's goroutine. What it answers itself is not among the
// service's counted errors: the library counts when this function returns.
func (s *Service) serve(r micro.Request, shadowGet bool) {
	a := asked{subject: r.Subject(), reply: r.Reply(), header: nats.Header(r.Headers()), data: r.Data(), who: s.requester(r)}
	if !wire.Answerable(s.subjects, a.reply) {
		return // nobody would hear the answer, or who did not ask; up subjects are there for what needs none
	}
	err := s.parse(&a, shadowGet)
	if m := messageOf(r); m != nil && wire.Illegible(m) {
		err = badRequest("%v", wire.ErrIllegible)
	}
	if err != nil {
		s.respond(a.reply, bridge.Response{}, err)
		return
	}
	s.take(a)
}

// take works on a request, or hands it on.
func (s *Service) take(a asked) {
	if !s.takeSlot(a.who) {
		s.respond(a.reply, bridge.Response{}, &bridge.RequestError{Code: bridge.StatusOffline, Message: "busy: too many requests are in work, try again later"})
		return
	}
	s.running.Go(func() {
		defer s.giveSlot(a.who)
		if s.peers != nil {
			if mine, err := s.forward(a); !mine {
				if err != nil {
					s.respond(a.reply, bridge.Response{}, err)
				}
				return
			}
		}
		response, err := s.handler.Handle(s.ctx, a.request)
		if response.Unheard == nil {
			s.respond(a.reply, response, err)
		} else if !s.audience.hears(s.ctx, wire.Answer(a.reply, response, err, s.answers.Room()-maxTraceDest)) {
			response.Unheard(s.ctx)
		}
	})
}

// requester is who asks: the account, as the server says, or without accounts the Thing.
func (s *Service) requester(r micro.Request) string {
	m := messageOf(r)
	if account := wire.AccountOf(nats.Header(r.Headers())); account != "" && strings.HasPrefix(r.Reply(), wire.Crossing) && m != nil && !wire.Obscured(m, wire.RequestLeast) { // no program's
		return account
	}
	return wire.ThingToken(r.Subject(), s.subjects.Space(mapping.SpaceReq))
}

func (s *Service) takeSlot(who string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots.Take(who)
}

func (s *Service) giveSlot(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slots.Give(who)
}

// parse reads subject and headers; its errors are *bridge.RequestError.
func (s *Service) parse(a *asked, shadowGet bool) error {
	h, err := wire.Admit(a.header)
	if err != nil {
		return badRequest("%v", err)
	}
	out := &a.request
	*out = bridge.Request{ShadowGet: shadowGet, Payload: a.data, Worker: wire.Value(h, wire.HeaderWorker), Trace: wire.TraceOf(h)}
	if shadowGet {
		if out.Thing, err = s.subjects.ParseShadowGet(a.subject); err != nil {
			return badRequest("%v", err)
		}
	} else {
		if _, out.Address, err = s.subjects.Parse(a.subject); err != nil {
			return badRequest("%v", err)
		}
		out.Thing = out.Address.Thing
	}
	if text := wire.Value(h, wire.HeaderTimeout); text != "" {
		timeout, err := time.ParseDuration(text)
		if err != nil || timeout <= 0 {
			return badRequest("header %s: %q is no positive duration, write for example 5s", wire.HeaderTimeout, text)
		}
		out.Timeout = timeout
	}
	return nil
}

// messageOf is the message of a request. The library does not show it, and without it headers that can't be read look
// as if there were none; TestIllegibleRequests fails when that changes.
func messageOf(r micro.Request) *nats.Msg {
	field := reflect.Indirect(reflect.ValueOf(r)).FieldByName("msg")
	if !field.IsValid() || field.Type() != reflect.TypeFor[*nats.Msg]() {
		return nil
	}
	return (*nats.Msg)(field.UnsafePointer())
}

func badRequest(format string, args ...any) error {
	return &bridge.RequestError{Code: bridge.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

// respond sends the answer.
func (s *Service) respond(reply string, response bridge.Response, err error) {
	_ = s.answers.Send(wire.Answer(reply, response, err, s.answers.Room()))
	s.answered.Add(1)
}

// Answered is how many requests have had an answer. It waits for nothing.
func (s *Service) Answered() uint64 { return s.answered.Load() }
