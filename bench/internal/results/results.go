// Package results replaces parts of a results file. The file is written by hand, except
// for the parts. A part is between two marker lines, and a program replaces it. So one
// measurement can be made again, and the text about the figures stays.
package results

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const skeleton = "# Results\n"

// A Part is a part of a results file.
type Part struct {
	Name string
	By   string // the program that writes it
}

func (p Part) begin() string { return fmt.Sprintf("<!-- begin %s: written by %s -->", p.Name, p.By) }

func (p Part) end() string { return fmt.Sprintf("<!-- end %s -->", p.Name) }

// replace returns file with the part replaced by text, or with the part at its end if
// there is none yet. Markers that aren't one pair in order are an error, because text
// might be lost.
func (p Part) replace(file, text string) (string, error) {
	part := p.begin() + "\n" + strings.TrimRight(text, "\n") + "\n" + p.end()
	begin, begins := findLine(file, p.begin())
	end, ends := findLine(file, p.end())
	switch {
	case begins == 0 && ends == 0:
		return strings.TrimRight(file, "\n") + "\n\n" + part + "\n", nil
	case begins != 1 || ends != 1 || end < begin:
		return "", fmt.Errorf("the results hold %d lines %q and %d lines %q; there must be one of each, in this order",
			begins, p.begin(), ends, p.end())
	}
	return file[:begin] + part + file[end+len(p.end()):], nil
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

// read returns the file at path, the start of one if there is none yet.
func read(path string) (string, error) {
	file, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return skeleton, nil
	}
	return string(file), err
}

// Check checks, before the measurement, whether its results can be written at path.
func (p Part) Check(path string) error {
	_, err := p.replaced(path, "")
	return err
}

// replaced is the file at path with the part replaced by text.
func (p Part) replaced(path, text string) (string, error) {
	file, err := read(path)
	if err != nil {
		return "", err
	}
	if file, err = p.replace(file, text); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return file, nil
}

// Write replaces the part of the file at path by text, atomically.
func (p Part) Write(path, text string) error {
	file, err := p.replaced(path, text)
	if err != nil {
		return err
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
