package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A results file is written by hand, except for one part for each group. Such a part is
// between two marker lines, and this program replaces it. So one group can be measured
// again, and the text about the figures stays.

const skeleton = "# Results\n"

func beginMarker(group string) string {
	return fmt.Sprintf("<!-- begin %s: written by bench/compare -->", group)
}

func endMarker(group string) string { return fmt.Sprintf("<!-- end %s -->", group) }

// replacePart returns file with the part of group replaced by text, or with that
// part at its end if there is none yet. Markers that aren't one pair in order
// are an error, because text might be lost.
func replacePart(file, group, text string) (string, error) {
	part := beginMarker(group) + "\n" + strings.TrimRight(text, "\n") + "\n" + endMarker(group)
	begin, begins := findLine(file, beginMarker(group))
	end, ends := findLine(file, endMarker(group))
	switch {
	case begins == 0 && ends == 0:
		return strings.TrimRight(file, "\n") + "\n\n" + part + "\n", nil
	case begins != 1 || ends != 1 || end < begin:
		return "", fmt.Errorf("the results hold %d lines %q and %d lines %q; there must be one of each, in this order",
			begins, beginMarker(group), ends, endMarker(group))
	}
	return file[:begin] + part + file[end+len(endMarker(group)):], nil
}

// findLine returns the start of the last line that equals want, and the number of
// such lines.
func findLine(file, want string) (at, count int) {
	offset := 0
	for line := range strings.Lines(file) {
		if strings.TrimRight(line, "\r\n") == want {
			at = offset
			count++
		}
		offset += len(line)
	}
	return at, count
}

// readResults returns the file at path, the start of one if there is none yet.
func readResults(path string) (string, error) {
	file, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return skeleton, nil
	}
	return string(file), err
}

// checkResults checks, before the measurement, whether its results can be written at
// path.
func checkResults(path string, chosen []group) error {
	file, err := readResults(path)
	if err != nil {
		return err
	}
	for _, g := range chosen {
		if _, err := replacePart(file, g.name, ""); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// writePart replaces group's part of the file at path atomically.
func writePart(path, group, text string) error {
	file, err := readResults(path)
	if err != nil {
		return err
	}
	if file, err = replacePart(file, group, text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }() // it was renamed if there was no error
	_, err = temp.WriteString(file)
	if err = errors.Join(err, temp.Chmod(0o644), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
