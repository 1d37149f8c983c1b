package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A side is one of the two builds of the echo server that --revisions or
// --binaries compares.
type side struct {
	about string // the revision, or the path that was given
	path  string // of the executable
}

// The word of --revisions for the working tree, including uncommitted changes, and its
// description.
func isWorktree(revision string) bool { return revision == "worktree" || revision == "." }

// makeSides puts an executable for each side below dir. Binaries are copied, so
// that another build can't replace one between two rounds.
func makeSides(ctx context.Context, root, dir string, set settings) ([2]side, error) {
	var sides [2]side
	for i, name := range [2]string{"old", "new"} {
		place := filepath.Join(dir, name)
		if err := os.Mkdir(place, 0o755); err != nil {
			return sides, err
		}
		var err error
		if set.binaries[i] != "" {
			sides[i], err = copyBinary(place, set.binaries[i])
		} else {
			sides[i], err = buildRevision(ctx, root, place, set.revisions[i])
		}
		if err != nil {
			return sides, fmt.Errorf("%s: %w", name, err)
		}
	}
	return sides, nil
}

func copyBinary(place, path string) (side, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return side{}, err
	}
	s := side{about: path, path: filepath.Join(place, "echo")}
	return s, os.WriteFile(s.path, b, 0o755)
}

// buildRevision builds cmd/echo of a revision, whose files it writes below
// place. Unlike a worktree, this leaves no record in Git.
func buildRevision(ctx context.Context, root, place, revision string) (side, error) {
	s := side{about: "the working tree", path: filepath.Join(place, "echo")}
	source := root
	if !isWorktree(revision) {
		about, err := command(ctx, root, nil, "git", "log", "-1", "--format=%h %s", "--end-of-options", revision, "--")
		if err != nil {
			return s, err
		}
		s.about = strings.TrimSpace(about)
		source = filepath.Join(place, "source")
		index := []string{"GIT_INDEX_FILE=" + filepath.Join(place, "index")}
		hash, _, _ := strings.Cut(s.about, " ")
		if _, err := command(ctx, root, index, "git", "read-tree", hash); err != nil {
			return s, err
		}
		if _, err := command(ctx, root, index, "git", "checkout-index", "--all", "--prefix="+source+"/"); err != nil {
			return s, err
		}
	}
	// Without paths and stamps, equal sources give equal binaries.
	_, err := command(ctx, source, nil, "go", "build", "-trimpath", "-buildvcs=false", "-o", s.path, "./cmd/echo")
	return s, err
}

// command runs a program in dir with additional environment variables, and returns its
// output. The error contains the text of its stderr.
func command(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w", name, args[0], err)
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
	}
	return string(out), err
}
