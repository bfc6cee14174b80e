package brokers

import (
	"bufio"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

//go:embed java
var launchers embed.FS

// javaBroker is a broker in a Java machine of its own. The machine ends with this process: it reads a pipe from it.
type javaBroker struct {
	name, launcher string
	jars, dir      string
	port           int
	process        *exec.Cmd
	pipe           io.WriteCloser
}

// inJava starts a broker whose files test/brokers/prepare has downloaded.
func inJava(name, launcher string) func(context.Context) (Broker, error) {
	return func(ctx context.Context) (Broker, error) {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		b := &javaBroker{name: name, jars: filepath.Join(cache, "fleetbridge-brokers", name)}
		if _, err := os.Stat(b.jars); err != nil {
			return nil, fmt.Errorf("%s: %w: run test/brokers/prepare", name, err)
		}
		if b.dir, err = os.MkdirTemp("", "fleets-"+name+"-"); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := b.begin(ctx, launcher); err != nil {
			_ = b.Close()
			return nil, err
		}
		return b, nil
	}
}

func (b *javaBroker) begin(ctx context.Context, launcher string) error {
	source, err := launchers.ReadFile("java/" + launcher)
	if err != nil {
		return fmt.Errorf("%s: %w", b.name, err)
	}
	b.launcher = filepath.Join(b.dir, launcher)
	if err := os.WriteFile(b.launcher, source, 0o600); err != nil {
		return fmt.Errorf("%s: %w", b.name, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("%s: %w", b.name, err)
	}
	b.port = l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	return b.Start(ctx)
}

func (b *javaBroker) URL() string { return "mqtt://127.0.0.1:" + strconv.Itoa(b.port) }

func (b *javaBroker) Start(ctx context.Context) error {
	cmd := exec.Command("java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", filepath.Join(b.jars, "*"), b.launcher, strconv.Itoa(b.port), b.dir)
	cmd.Dir = b.dir
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("%s: %w", b.name, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("%s: %w", b.name, err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", b.name, err)
	}
	ready, said := make(chan bool, 1), ""
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if lines.Text() == "ready" {
				ready <- true
				break
			}
			said += lines.Text() + "\n"
		}
		ready <- false
		_, _ = io.Copy(io.Discard, out)
	}()
	b.process, b.pipe = cmd, pipe
	select {
	case is := <-ready:
		if is {
			return nil
		}
		err = errors.New("it ended")
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = b.Kill()
	<-ready
	return fmt.Errorf("%s: %w: %s", b.name, err, cmp.Or(strings.TrimSpace(said), "it said nothing"))
}

func (b *javaBroker) Kill() error {
	if b.process == nil {
		return nil
	}
	_ = b.process.Process.Kill()
	_ = b.process.Wait() // it was killed
	_ = b.pipe.Close()
	b.process = nil
	return nil
}

func (b *javaBroker) Close() error { return errors.Join(b.Kill(), os.RemoveAll(b.dir)) }
