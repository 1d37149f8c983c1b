package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// findRoot returns the folder of Millrace's module, from anywhere inside it.
func findRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/millrace/millrace").Output()
	if err != nil {
		return "", fmt.Errorf("run this inside the repository: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// build compiles the programs of chosen into dir, each once, so that no
// compiler runs during a measurement.
func build(ctx context.Context, root, dir string, chosen []group) error {
	needed := map[string]bool{}
	for _, g := range chosen {
		for _, c := range g.contestants {
			if c.program != uwsProgram && !filepath.IsAbs(c.program) {
				needed[c.program] = true
			}
		}
	}
	modules := map[string][]string{}
	for program := range needed {
		switch program {
		case "floor":
			modules["."] = append(modules["."], "./bench/floor")
		case "echo":
			modules["."] = append(modules["."], "./cmd/echo")
		default:
			modules["bench/peers"] = append(modules["bench/peers"], "./"+program)
		}
	}
	for module, packages := range modules {
		cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-o", dir + "/"}, packages...)...)
		cmd.Dir = filepath.Join(root, module)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", strings.Join(packages, " "), err, out)
		}
	}
	return nil
}
