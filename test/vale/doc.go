// Package vale pins Vale, which checks the language of Markdown and of Go
// comments. The style of the project is in styles/Project.
//
// It is a module of its own: Vale changes versions of other tools in test/tools.
package vale
