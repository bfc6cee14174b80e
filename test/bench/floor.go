package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"fleetbridge/internal/bench"
	"fleetbridge/mapping"
)

// floor is the least that a bridge can be: paho on one side, an embedded NATS server without JetStream on
// the other, and each message handed from one to the other. Nothing is checked or stored, and what is on
// its way when it stops is lost. Stock, it uses paho as its documents show, with publishWorkers publishers
// that each wait for their acknowledgement. Tuned, it reads and writes through buffers and publishes
// without waiting.
type floor struct {
	server  *server.Server
	nc      *nats.Conn
	clients []*paho.Client
	stop    context.CancelFunc
}

const (
	publishWorkers = 64
	shakeTime      = 10 * time.Second
)

func startFloor(ctx context.Context, s bench.Setup) (bench.Contender, error) {
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		return nil, err
	}
	srv.Start()
	if !srv.ReadyForConnections(shakeTime) {
		return nil, errors.New("the NATS server did not start")
	}
	work, stop := context.WithCancel(context.Background())
	f := &floor{server: srv, stop: stop}
	if f.nc, err = nats.Connect("", nats.InProcessServer(srv)); err == nil {
		for _, t := range s.Things {
			if err = f.join(ctx, work, s, string(t)); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = f.nc.Flush()
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// join connects one Thing both ways.
func (f *floor) join(ctx, work context.Context, s bench.Setup, thing string) error {
	u, err := url.Parse(s.Broker)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	if s.Name == tuned {
		conn = newBufferedConn(conn)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: conn, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(r paho.PublishReceived) (bool, error) {
			return true, f.nc.Publish(downSubject(r.Packet.Topic), r.Packet.Payload)
		},
	}})
	ctx, cancel := context.WithTimeout(ctx, shakeTime)
	defer cancel()
	most := uint16(1024)
	if _, err := c.Connect(ctx, &paho.Connect{ClientID: thing, KeepAlive: 30, CleanStart: true, Properties: &paho.ConnectProperties{ReceiveMaximum: &most}}); err != nil {
		return fmt.Errorf("CONNECT: %w", err)
	}
	f.clients = append(f.clients, c)
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{
		{Topic: mapping.Address{Thing: mapping.Thing(thing), Channel: mapping.ShadowDelta}.Topic(), QoS: 1, NoLocal: true},
	}}); err != nil {
		return fmt.Errorf("SUBSCRIBE: %w", err)
	}
	return f.up(work, c, s.Name, thing)
}

// up publishes what programs send.
func (f *floor) up(work context.Context, c *paho.Client, name, thing string) error {
	subject := "fleets.up." + thing + ".>"
	if name == tuned {
		_, err := f.nc.Subscribe(subject, func(m *nats.Msg) {
			_, _ = c.PublishWithOptions(work, packet(m), paho.PublishOptions{Method: paho.PublishMethod_AsyncSend})
		})
		return err
	}
	in := make(chan *nats.Msg, publishWorkers)
	for range publishWorkers {
		go func() {
			for m := range in {
				_, _ = c.Publish(work, packet(m))
			}
		}()
	}
	_, err := f.nc.Subscribe(subject, func(m *nats.Msg) {
		select {
		case in <- m:
		case <-work.Done():
		}
	})
	return err
}

func packet(m *nats.Msg) *paho.Publish {
	return &paho.Publish{Topic: "$emqx/things/" + strings.ReplaceAll(strings.TrimPrefix(m.Subject, "fleets.up."), ".", "/"), QoS: 1, Payload: m.Data}
}

func downSubject(topic string) string {
	return "fleets.down." + strings.ReplaceAll(strings.TrimPrefix(topic, "$emqx/things/"), "/", ".")
}

func (f *floor) URL() string { return f.server.ClientURL() }

func (f *floor) HTTP() string { return "" }

func (f *floor) Close() error {
	f.stop()
	for _, c := range f.clients {
		_ = c.Disconnect(&paho.Disconnect{ReasonCode: packets.DisconnectNormalDisconnection})
	}
	if f.nc != nil {
		f.nc.Close()
	}
	f.server.Shutdown()
	f.server.WaitForShutdown()
	return nil
}
