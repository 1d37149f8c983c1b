// Mutate shows that the tests protect the guards of this repository: it removes a
// guard, runs the test that the table names for it, and expects that test to fail.
// It changes no file of the tree: it passes the changed file to the go command as
// an overlay.
//
//	go run ./internal/mutate              # a sample
//	go run ./internal/mutate -all
//	go run ./internal/mutate -only ring   # the guards whose file contains "ring"
//
// It exits with 1 if no test fails without a guard, or if an entry of the table
// does not match the code any more, and with 2 for wrong arguments.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// testTimeout bounds the run of a test: a mutant that hangs counts as detected,
// too.
const testTimeout = time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// settings are the values of the flags.
type settings struct {
	all     bool
	sample  int
	seed    uint64
	only    string
	verbose bool
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var s settings
	fs := flag.NewFlagSet("mutate", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.BoolVar(&s.all, "all", false, "remove every guard")
	fs.IntVar(&s.sample, "sample", 5, "how many `guards` to remove, among those whose tests are quick")
	fs.Uint64Var(&s.seed, "seed", 0, "seed of the sample; 0 picks one and prints it")
	fs.StringVar(&s.only, "only", "", "remove the guards whose file contains this `text`")
	fs.BoolVar(&s.verbose, "v", false, "print what the failing tests print")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	root, err := findRoot()
	if err != nil {
		fmt.Fprintln(stderr, "mutate:", err)
		return 2
	}
	chosen := choose(guards, s, stdout)
	if len(chosen) == 0 {
		fmt.Fprintln(stderr, "mutate: no guard was chosen")
		return 2
	}
	failed := 0
	for _, g := range chosen {
		begin := time.Now()
		out, err := g.try(ctx, root)
		if s.verbose {
			fmt.Fprintf(stdout, "%s\n", out)
		}
		result := "held by its test"
		if err != nil {
			failed++
			result = err.Error()
		}
		fmt.Fprintf(stdout, "%-6s %s: %s: %s (%.1f s)\n", verdict(err), g.File, g.name(), result, time.Since(begin).Seconds())
		if ctx.Err() != nil {
			return 1
		}
	}
	fmt.Fprintf(stdout, "%d of %d guards are held\n", len(chosen)-failed, len(chosen))
	if failed > 0 {
		return 1
	}
	return 0
}

func verdict(err error) string {
	if err != nil {
		return "FAIL"
	}
	return "ok"
}

// choose returns the guards to remove.
func choose(from []guard, s settings, stdout io.Writer) (chosen []guard) {
	for _, g := range from {
		if s.only != "" && strings.Contains(g.File, s.only) || s.only == "" && (s.all || !g.Slow) {
			chosen = append(chosen, g)
		}
	}
	if s.all || s.only != "" || s.sample >= len(chosen) {
		return chosen
	}
	if s.seed == 0 {
		s.seed = rand.Uint64()>>32 | 1
	}
	fmt.Fprintf(stdout, "mutate: -seed=%d -sample=%d of %d\n", s.seed, s.sample, len(chosen))
	r := rand.New(rand.NewPCG(s.seed, 0))
	r.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	return chosen[:max(s.sample, 0)]
}

// findRoot returns the folder of the module that holds the working directory.
func findRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	mod := strings.TrimSpace(string(out))
	if filepath.Base(mod) != "go.mod" {
		return "", errors.New("the working directory is in no module")
	}
	return filepath.Dir(mod), nil
}

// guard is a condition in the code without which a test must fail.
type guard struct {
	File    string // below the module's root
	Old     string // the guard; it must be in File exactly once
	New     string // the code without the guard; it must compile
	Package string // of the test, below the root; that of File if empty
	Run     string // the regular expression of the test's name
	Slow    bool   // too slow for a sample
}

// name is the guard's first line.
func (g *guard) name() string {
	line, _, _ := strings.Cut(strings.TrimSpace(g.Old), "\n")
	return line
}

// testPackage returns the package of the guard's test, as an argument of the go
// command.
func (g *guard) testPackage() string {
	if g.Package != "" {
		return "./" + g.Package
	}
	return "./" + filepath.ToSlash(filepath.Dir(g.File))
}

// mutant returns the text of File without the guard.
func (g *guard) mutant(root string) (string, error) {
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(g.File)))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(b), g.Old); n != 1 || g.Old == g.New {
		return "", fmt.Errorf("the table is out of date: found %d times, want it once", n)
	}
	return strings.Replace(string(b), g.Old, g.New, 1), nil
}

// try removes the guard and runs its test, which must succeed with the guard and
// fail without it. It returns the output of the go command.
func (g *guard) try(ctx context.Context, root string) (out []byte, err error) {
	text, err := g.mutant(root)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	overlay, err := writeOverlay(dir, filepath.Join(root, filepath.FromSlash(g.File)), text)
	if err != nil {
		return nil, err
	}
	if out, err = g.test(ctx, root); err != nil {
		return out, fmt.Errorf("%s fails with the guard, too", g.Run)
	}
	out, err = g.test(ctx, root, "-overlay", overlay)
	var exit *exec.ExitError
	switch {
	case strings.Contains(string(out), "[no tests to run]"):
		return out, fmt.Errorf("%s names no test", g.Run)
	case err == nil:
		return out, fmt.Errorf("SURVIVES: %s does not notice that it is gone", g.Run)
	case !errors.As(err, &exit) || ctx.Err() != nil:
		return out, err
	case strings.Contains(string(out), "[build failed]") || strings.Contains(string(out), "[setup failed]"):
		return out, fmt.Errorf("does not compile without it:\n%s", out)
	}
	return out, nil
}

// writeOverlay writes the files for the go command's -overlay, which replaces the
// content of path by text. It returns the name of the overlay file.
func writeOverlay(dir, path, text string) (string, error) {
	mutant := filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(mutant, []byte(text), 0o600); err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutant}})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, b, 0o600)
}

// test runs the guard's test with more flags.
func (g *guard) test(ctx context.Context, root string, flags ...string) ([]byte, error) {
	args := append([]string{"test", "-failfast", "-timeout", testTimeout.String(), "-run", g.Run}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, g.testPackage())...)
	cmd.Dir = root
	return cmd.CombinedOutput()
}
