package embedded

import (
	"errors"
	"net"
	"reflect"
	"unsafe"

	"github.com/nats-io/nats-server/v2/server"
)

// listenOn makes the server accept from l. The server takes a listener that it has already, and offers no way to give it
// one; TestServerTakesOurListener fails when that changes.
func listenOn(s *server.Server, l net.Listener) error {
	field := reflect.ValueOf(s).Elem().FieldByName("listener")
	if !field.IsValid() || field.Type() != reflect.TypeFor[net.Listener]() {
		return errors.New("this version of the NATS server takes no listener of ours")
	}
	*(*net.Listener)(unsafe.Pointer(field.UnsafeAddr())) = l
	ready := make(chan struct{})
	go s.AcceptLoop(ready)
	<-ready
	return nil
}
