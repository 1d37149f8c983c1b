package client

import (
	"runtime"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/testkit/serve"
)

// TestHubHeedsTheCPUs checks that the hub uses the number of CPUs without the
// additions of running engines to GOMAXPROCS, and that with another engine it adds
// nothing more.
func TestHubHeedsTheCPUs(t *testing.T) {
	cpus := runtime.GOMAXPROCS(0)
	e := engine.New(engine.Config{Handler: serve.Echo, Cores: cpus})
	defer e.Close()
	l, err := e.Listen("127.0.0.1:0", engine.Packets())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	raised := runtime.GOMAXPROCS(0)
	c, err := Dial(t.Context(), "tcp://"+l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if n := c.hub.engine.Config().Cores; n != min(cpus, maxCores) {
		t.Errorf("%d cores on %d CPUs", n, cpus)
	}
	if n := runtime.GOMAXPROCS(0); n != raised {
		t.Errorf("GOMAXPROCS is %d with a client, %d without", n, raised)
	}
	_ = c.Close()
	<-c.gone
	_ = e.Close()
	if n := runtime.GOMAXPROCS(0); n != cpus {
		t.Errorf("GOMAXPROCS is %d in the end, not %d", n, cpus)
	}
}
