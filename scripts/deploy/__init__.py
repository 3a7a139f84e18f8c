"""The commands around a deployment: preflight, the gate before a promotion, the rollout in steps, and the monitor.

Standard library only, so that it runs wherever Debian's python3 does. docs/promotion.md is the reader's side.
"""
