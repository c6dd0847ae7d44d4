// The entry in the status bar: whether the model is there. A click shows the log.

import * as vscode from "vscode";

export interface Status {
  state: "loading" | "ready" | "failed" | "closed";
  message: string;
}

const ICONS: Record<Status["state"], string> = {
  loading: "$(sync~spin)",
  ready: "$(check)",
  failed: "$(error)",
  closed: "$(circle-slash)",
};

export class StatusBar implements vscode.Disposable {
  private readonly item = vscode.window.createStatusBarItem(vscode.StatusBarAlignment.Right);

  constructor() {
    this.item.command = "viable.showLog";
    this.show({ state: "loading", message: "starting" });
    this.item.show();
  }

  show(status: Status): void {
    this.item.text = `${ICONS[status.state]} Viable`;
    this.item.tooltip = status.message;
    this.item.backgroundColor =
      status.state === "failed" ? new vscode.ThemeColor("statusBarItem.errorBackground") : undefined;
  }

  dispose(): void {
    this.item.dispose();
  }
}
