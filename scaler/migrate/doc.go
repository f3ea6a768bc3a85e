// Package migrate converts HorizontalPodAutoscalers with custom metrics into the
// ScaledObjects that replace them. It is pure: the objects and prometheus-adapter's rules
// are arguments.
package migrate
