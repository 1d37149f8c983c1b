package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"
)

// TestReport checks that the page is well-formed, complete, and loads nothing.
func TestReport(t *testing.T) {
	cfg := short("tcp://" + acceptEach(t, echoRaw))
	cfg.Raw, cfg.Duration = true, 300*time.Millisecond
	r, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Faults = map[string]int{"<script>alert(1)</script>": 7}
	r.Unsent = 12345
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	decoder := xml.NewDecoder(bytes.NewReader(page.Bytes()))
	lines := 0
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		if element, ok := token.(xml.StartElement); ok {
			switch element.Name.Local {
			case "polyline":
				lines++
			case "script", "link", "img", "iframe", "object":
				t.Errorf("the page has a <%s>", element.Name.Local)
			}
		}
	}
	if lines != 2 {
		t.Errorf("%d lines drawn, want latency and throughput", lines)
	}
	for _, loads := range []string{"http://", "https://", "url(", "@import", "NaN", "Inf", "ZgotmplZ"} {
		if strings.Contains(page.String(), loads) {
			t.Errorf("the page has %q", loads)
		}
	}
	for _, has := range []string{"prefers-color-scheme", cfg.URL, "12345 requests", "99.99", "p99.9"} {
		if !strings.Contains(page.String(), has) {
			t.Errorf("the page lacks %q", has)
		}
	}
	if err := (&Result{}).WriteHTML(io.Discard); err != nil {
		t.Errorf("an empty result: %v", err)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}

// TestServerFallsBehind overloads a server that answers slowly: its latency
// counts from the intended times, and unsent requests are reported.
func TestServerFallsBehind(t *testing.T) {
	cfg := short("tcp://" + acceptEach(t, echoPackets(func(_ int, answer []byte) []byte {
		time.Sleep(10 * time.Millisecond)
		return answer
	})))
	cfg.Rate, cfg.InFlight, cfg.Duration = 30_000, 5, 300*time.Millisecond
	r, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	// 9,000 were due, and 3 sessions answer at most 100/s each.
	if r.Errors != 0 || r.Unsent < 8000 || r.Behind() == "" || r.Samples < 8000 || r.LatencyMean < 50*time.Millisecond {
		t.Errorf("%+v", r)
	}
}
